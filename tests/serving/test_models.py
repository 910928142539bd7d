"""Several models: what a new configuration changes, and what a refused one leaves as it is."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from privet.components.shared.errors import ServingError
from privet.serving.config_file import ConfigFile
from privet.serving.model_config import ModelConfig
from privet.serving.models import ModelRequest, Models
from privet.serving.retries import RetryPolicy
from privet.serving.status import Code, RequestError
from privet.serving.version_policy import All, Specific
from privet.serving.versions import ModelVersions

RETRY = RetryPolicy(maximum_retries=5, interval_seconds=60)


def fake_engine() -> Any:
    """Loads nothing; knows whether it was closed."""
    engine = SimpleNamespace(kind="savedmodel", closed=threading.Event())
    engine.close = engine.closed.set
    return engine


def load(path: Path, _version: int) -> Any:
    if (path / "bad").exists():
        raise ServingError("it is bad.")
    return fake_engine()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Models]]:
    """Makes Models that look at their directories when they are told to."""
    made = []

    def make_models(load: Callable[[Path, int], Any] = load, **options: Any) -> Models:
        def versions(config: ModelConfig) -> ModelVersions:
            return ModelVersions(
                config.name,
                config.base_path,
                load,
                policy=config.policy,
                poll_seconds=0,
                retry=RETRY,
            )

        made.append(Models(versions, **options))
        return made[-1]

    yield make_models
    for models in made:
        models.stop()


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., ModelConfig]:
    """Makes a model's configuration and its directories."""

    def make_model(name: str, *versions: int, base: str = "", **options: Any) -> ModelConfig:
        base_path = tmp_path / (base or name)
        for version in versions:
            (base_path / str(version)).mkdir(parents=True, exist_ok=True)
        return ModelConfig(name, base_path, **options)

    return make_model


def asked(models: Models, name: str, version: int | None = None, label: str | None = None) -> Any:
    """The version that answers, or the error's message."""
    try:
        with models.use(ModelRequest(name, version, label)) as servable:
            assert servable.model_name == name
            return servable.version
    except RequestError as error:
        return error.message


def states(models: Models, name: str) -> dict[int, str]:
    return {s.version: s.state.name for s in models.statuses(ModelRequest(name))}


def test_models_come_and_go_and_the_one_that_stays_is_not_loaded_again(
    make: Callable[..., Models], model: Callable[..., ModelConfig]
) -> None:
    lines: list[str] = []
    models = make(announce=lines.append)
    assert not models.is_ready()
    models.apply([model("a", 1), model("b", 1, 2)])
    assert models.names() == ("a", "b")
    assert models.is_ready()
    assert (asked(models, "a"), asked(models, "b")) == (1, 2)

    with models.use(ModelRequest("b")) as kept, models.use(ModelRequest("a")) as removed:
        models.apply([model("b"), model("c", 7, 8, policy=All())])
        assert asked(models, "a") == "Servable not found for request: Latest(a)"
        assert states(models, "a") == {1: "UNLOADING"}
        assert not removed.engine.closed.is_set()  # type: ignore[attr-defined]
        with models.use(ModelRequest("b")) as still:
            assert still is kept
    assert removed.engine.closed.is_set()  # type: ignore[attr-defined]
    assert states(models, "a") == {1: "END"}
    assert states(models, "c") == {8: "AVAILABLE", 7: "AVAILABLE"}
    assert lines == [
        "Model 'c': now served, versions 7 and 8 (savedmodel)",
        "Model 'a': no longer served",
    ]

    models.apply([])
    assert models.names() == ()
    assert states(models, "b") == {2: "END"}


def test_changed_base_path_takes_over_without_a_gap(
    make: Callable[..., Models], model: Callable[..., ModelConfig]
) -> None:
    models = make()
    models.apply([model("m", 1)])
    with models.use(ModelRequest("m")) as old:
        models.apply([model("m", 1, 2, base="elsewhere", policy=All())])
        assert asked(models, "m") == 2
    assert old.engine.closed.is_set()  # type: ignore[attr-defined]
    assert states(models, "m") == {2: "AVAILABLE", 1: "AVAILABLE"}


def test_refused_configuration_changes_nothing(
    make: Callable[..., Models], model: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    good = fake_engine()
    models = make(lambda path, version: good if path.parent.name == "n" else load(path, version))
    stays = model("m", 1, labels={"stable": 1})
    models.apply([stays])
    new, bad = model("n", 1), model("bad", 1)
    (bad.base_path / "1" / "bad").touch()
    refused: list[tuple[Sequence[ModelConfig], Code, str]] = [
        ([new, bad], Code.UNKNOWN, r"1 model\(s\) did not become .*'bad'.* it is bad\."),
        ([new, model("none"), bad], Code.UNKNOWN, r"^2 model\(s\).*base path.*it is bad\."),
        ([new, model("m", labels={"stable": 2})], Code.FAILED_PRECONDITION, "version 2 of model m"),
        ([new, model("m", policy=Specific(frozenset({5})))], Code.UNKNOWN, "found version 1"),
        ([model("m", platform="tflite")], Code.INVALID_ARGUMENT, "change a model's platform"),
    ]
    for configs, code, message in refused:
        with pytest.raises(RequestError, match=message) as caught:
            models.apply(configs)
        assert caught.value.code is code
        assert models.names() == ("m",)
        assert asked(models, "m", label="stable") == 1
        assert asked(models, "n") == "Servable not found for request: Latest(n)"
    assert good.closed.is_set()


def test_labels_follow_the_configuration(
    make: Callable[..., Models], model: Callable[..., ModelConfig]
) -> None:
    models = make()
    models.apply([model("m", 1, 2, policy=All(), labels={"stable": 1, "canary": 2})])
    assert (asked(models, "m", label="stable"), asked(models, "m", label="canary")) == (1, 2)
    unknown = "Unrecognized servable version label: beta"
    assert asked(models, "m", label="beta") == asked(models, "n", label="beta") == unknown

    models.apply([model("m", policy=All(), labels={"stable": 2})])
    assert models.labels("m") == {"stable": 2}
    assert asked(models, "m", label="stable") == 2
    assert asked(models, "m", label="canary").endswith("label: canary")
    # A version that the same configuration takes away is no target for a label.
    with pytest.raises(RequestError, match="version 1 of model m, which is not currently"):
        models.apply([model("m", policy=Specific(frozenset({2})), labels={"stable": 1})])


def test_label_of_a_version_to_come_resolves_once_it_is_loaded(
    make: Callable[..., Models], model: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    models = make(allow_labels_for_unavailable=True)
    models.apply([model("m", 1, policy=All(), labels={"canary": 2})])
    assert asked(models, "m", label="canary") == "Servable not found for request: Specific(m, 2)"
    (tmp_path / "m" / "2").mkdir()
    models._routes.versions["m"].poll()
    assert asked(models, "m", label="canary") == 2
    with pytest.raises(RequestError, match="version 3 of model m"):
        models.apply([model("m", policy=All(), labels={"canary": 3})])


def test_no_request_fails_while_configurations_change(
    make: Callable[..., Models], model: Callable[..., ModelConfig]
) -> None:
    models = make()
    here = model("m", 1, 2, policy=All(), labels={"stable": 1})
    there = model("m", 1, 2, base="elsewhere", policy=All(), labels={"stable": 2})
    models.apply([here])
    done = threading.Event()
    answers: list[set[Any]] = []

    def ask() -> None:
        found = set()
        while not done.is_set():
            found.add((asked(models, "m"), asked(models, "m", label="stable")))
        answers.append(found)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        models.apply([there])
        models.apply([here])
    done.set()
    for thread in threads:
        thread.join()

    assert set.union(*answers) == {(2, 1), (2, 2)}


def test_slow_model_does_not_hold_up_another(
    make: Callable[..., Models], model: Callable[..., ModelConfig]
) -> None:
    other_loads = threading.Event()

    def wait_for_other(path: Path, version: int) -> Any:
        if path.parent.name == "slow":
            assert other_loads.wait(10)
        else:
            other_loads.set()
        return load(path, version)

    models = make(wait_for_other)
    models.apply([model("slow", 1), model("m", 1)])
    assert models.is_ready()


def test_reload_takes_a_list_only(
    make: Callable[..., Models], model: Callable[..., ModelConfig]
) -> None:
    models = make()
    models.apply([model("m", 1)])
    with pytest.raises(RequestError) as caught:
        models.reload(ModelServerConfig())
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList "
        "is currently supported"
    )
    message = ModelServerConfig()
    added = message.model_config_list.config.add(name="n", model_platform="tensorflow")
    added.base_path = str(model("n", 3).base_path)
    models.reload(message)
    assert (models.names(), asked(models, "n")) == (("n",), 3)


def test_config_file_is_followed_and_a_broken_one_told_once(tmp_path: Path) -> None:
    applied: list[list[str]] = []
    lines: list[str] = []
    refuse: list[RequestError] = []

    def apply(configs: Sequence[ModelConfig]) -> None:
        if refuse:
            raise refuse.pop()
        applied.append([config.name for config in configs])

    def text(*names: str) -> str:
        entries = (
            f"config {{ name: '{name}' base_path: '/m' model_platform: 'tensorflow' }}"
            for name in names
        )
        return f"model_config_list {{ {' '.join(entries)} }}"

    path = tmp_path / "models.config"
    path.write_text(text("a"))
    retry = RetryPolicy(maximum_retries=1, interval_seconds=0)
    with ConfigFile(path, apply, poll_seconds=0, retry=retry, announce=lines.append) as file:
        file.poll()
        assert applied == [["a"]]
        path.write_text(text("a", "b"))
        file.poll()
        file.poll()
        assert applied == [["a"], ["a", "b"]]
        path.write_text("")  # an editor is about to write it
        file.poll()
        path.write_text("model_config_list {")
        file.poll()
        file.poll()
        path.unlink()
        file.poll()
        assert len(applied) == 2
        # What was refused is tried again, though it has not changed: its version may have come.
        refuse.append(RequestError(Code.FAILED_PRECONDITION, "not yet"))
        path.write_text(text("c"))
        file.poll()
        file.poll()
        file.poll()

    assert applied[2:] == [["c"]]
    assert [line.split(": ", 1)[1].split(";")[0] for line in lines] == [
        f"Wanted a text ModelServerConfig in {path}",
        f"Wanted a text ModelServerConfig in {path}",
        "not yet",
    ]
    assert "the one before stays" in lines[0]


def test_label_that_cannot_be_at_the_start_tells_of_the_flag(tmp_path: Path) -> None:
    def refuse(_configs: Sequence[ModelConfig]) -> None:
        raise RequestError(Code.FAILED_PRECONDITION, "no label")

    path = tmp_path / "models.config"
    path.write_text("")
    with pytest.raises(ServingError, match="--allow_version_labels_for_unavailable_models"):
        ConfigFile(path, refuse, poll_seconds=0, retry=RETRY, announce=print)
