"""Loading, swapping, keeping and dropping versions, with engines that load at once."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ServingError
from privet.serving.engine import Engine
from privet.serving.model_config import ModelConfig
from privet.serving.models import ModelRequest, Models
from privet.serving.retries import RetryPolicy
from privet.serving.status import Code, RequestError
from privet.serving.version_directories import find_versions
from privet.serving.version_policy import NEWEST, All, Latest, Policy, Specific
from privet.serving.versions import ModelVersions, State

RETRY = RetryPolicy(maximum_retries=5, interval_seconds=60)


class FakeEngine:
    """Loads nothing; knows its version and whether it was closed."""

    kind = "savedmodel"
    may_block = False

    def __init__(self, version: int) -> None:
        self.signature_defs: Any = {}
        self.signatures: Any = {}
        self.version = version
        self.closed = False

    def run(self, signature_name: str, inputs: Any, output_filter: Any = ()) -> Any:
        return {"version": np.array([self.version])}

    def close(self) -> None:
        self.closed = True


def load(path: Path, version: int) -> Engine:
    """A version with a file `bad` in it does not load."""
    if (path / "bad").exists():
        raise ServingError("it is bad.")
    return FakeEngine(version)


def add(base_path: Path, version: str, bad: bool = False) -> Path:
    temporary = base_path / f".tmp-{version}"
    temporary.mkdir(parents=True)
    if bad:
        (temporary / "bad").touch()
    return temporary.rename(base_path / version)


def remove(path: Path) -> None:
    for child in path.iterdir():
        child.unlink()
    path.rmdir()


def states(versions: ModelVersions) -> dict[int, str]:
    return {status.version: status.state.name for status in versions.statuses()}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., ModelVersions]]:
    made = []

    def make_versions(**options: Any) -> ModelVersions:
        options = {"policy": NEWEST, "poll_seconds": 0, "retry": RETRY, **options}
        made.append(ModelVersions("m", tmp_path, options.pop("load", load), **options))
        return made[-1]

    yield make_versions
    for versions in made:
        versions.stop()


def serving(versions: ModelVersions) -> int:
    with versions.use() as servable:
        return servable.version


def test_newest_version_is_served_and_others_are_not_loaded(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    for name in ("1", "00000123", "99.5", "latest", ".tmp-200", "-5", str(2**63)):
        add(tmp_path, name)
    (tmp_path / "777").touch()  # a file
    versions = make()

    assert versions.start().version == 123
    assert states(versions) == {123: "AVAILABLE"}
    assert set(find_versions(tmp_path)) == {1, 123}


def test_new_version_takes_over_and_the_old_one_ends(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    lines: list[str] = []
    add(tmp_path, "1")
    versions = make(announce=lines.append)
    old = versions.start().engine
    add(tmp_path, "2")
    versions.poll()

    assert serving(versions) == 2
    assert old.closed  # type: ignore[attr-defined]
    assert [s.version for s in versions.statuses()] == [2, 1]  # newest first
    assert states(versions) == {2: "AVAILABLE", 1: "END"}
    assert lines == ["Model 'm': version 2 (savedmodel) serves, in place of version 1"]


def test_requests_in_flight_finish_on_the_old_version(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    versions = make()
    versions.start()
    with versions.use() as old:
        add(tmp_path, "2")
        versions.poll()

        assert states(versions) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert not old.engine.closed  # type: ignore[attr-defined]
        assert serving(versions) == 2
        with pytest.raises(RequestError), versions.use(1):
            pass
    assert old.engine.closed  # type: ignore[attr-defined]
    assert states(versions) == {2: "AVAILABLE", 1: "END"}


def test_failed_version_leaves_the_old_one_serving(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    lines: list[str] = []
    add(tmp_path, "1")
    versions = make(announce=lines.append)
    versions.start()
    add(tmp_path, "2", bad=True)
    versions.poll()
    versions.poll()

    assert serving(versions) == 1
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    assert versions.statuses()[0].message == "it is bad."
    assert versions.statuses()[0].code is not Code.OK
    assert lines == ["Model 'm': version 2 failed to load, version 1 goes on serving: it is bad."]

    add(tmp_path, "3")
    versions.poll()
    assert serving(versions) == 3


def test_failed_version_is_tried_again_as_often_as_asked(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    tried: list[int] = []

    def load_and_count(path: Path, version: int) -> Engine:
        tried.append(version)
        return load(path, version)

    add(tmp_path, "1")
    versions = make(load=load_and_count, retry=RetryPolicy(2, interval_seconds=0))
    versions.start()
    add(tmp_path, "2", bad=True)
    for _ in range(6):
        versions.poll()

    assert tried == [1, 2, 2, 2]


def test_failed_version_that_is_replaced_is_tried_at_once(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    versions = make()
    versions.start()
    bad = add(tmp_path, "2", bad=True)
    versions.poll()
    (bad / "bad").unlink()
    versions.poll()

    assert serving(versions) == 2


def test_deleting_the_newest_rolls_back(tmp_path: Path, make: Callable[..., ModelVersions]) -> None:
    add(tmp_path, "1")
    newest = add(tmp_path, "2")
    versions = make()
    versions.start()
    remove(newest)
    versions.poll()

    assert serving(versions) == 1
    assert states(versions) == {2: "END", 1: "AVAILABLE"}

    add(tmp_path, "2")
    versions.poll()
    assert serving(versions) == 2


def test_deleting_all_versions_ends_them_but_a_missing_base_path_changes_nothing(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    only = add(tmp_path, "1")
    versions = make()
    versions.start()
    away = tmp_path.rename(tmp_path.with_name("away"))
    versions.poll()
    assert serving(versions) == 1

    away.rename(tmp_path)
    remove(only)
    versions.poll()
    assert states(versions) == {1: "END"}
    with pytest.raises(RequestError, match=r"Servable not found for request: Latest\(m\)"):
        serving(versions)


def test_state_is_loading_while_it_loads_and_the_old_one_serves(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    loading, go_on = threading.Event(), threading.Event()

    def slow_load(path: Path, version: int) -> Engine:
        if version == 2:
            loading.set()
            assert go_on.wait(10)
        return load(path, version)

    versions = make(load=slow_load, poll_seconds=0.01)
    versions.start()
    add(tmp_path, "2")
    assert loading.wait(10)
    during = states(versions), serving(versions)
    go_on.set()
    versions.stop()

    assert during == ({2: "LOADING", 1: "AVAILABLE"}, 1)
    assert set(states(versions).values()) == {"END"}


def test_stop_waits_for_nobody_but_ends_what_is_used_later(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    versions = make()
    versions.start()
    with versions.use() as servable:
        versions.stop()
        assert states(versions) == {1: "UNLOADING"}
    assert servable.engine.closed  # type: ignore[attr-defined]
    assert states(versions) == {1: "END"}


def test_policies_serve_several_versions_and_change_while_serving(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    for version in "1234":
        add(tmp_path, version)
    lines: list[str] = []
    versions = make(policy=Latest(2), announce=lines.append)
    versions.start()
    assert states(versions) == {4: "AVAILABLE", 3: "AVAILABLE"}
    assert serving(versions) == 4
    with versions.use(3) as servable:
        assert servable.version == 3

    def follow(policy: Policy) -> dict[int, str]:
        versions.follow(policy)
        versions.poll()  # its own thread was woken too; they take turns
        return states(versions)

    assert follow(Specific(frozenset({1, 3}))) == {4: "END", 3: "AVAILABLE", 1: "AVAILABLE"}
    assert serving(versions) == 3
    assert set(follow(All()).values()) == {"AVAILABLE"}
    assert serving(versions) == 4
    assert lines == [
        "Model 'm': version 4 no longer serves",
        "Model 'm': version 1 (savedmodel) serves, beside version 3",
        "Model 'm': version 4 (savedmodel) serves, beside versions 1 and 3",
        "Model 'm': version 2 (savedmodel) serves, beside versions 1, 3 and 4",
    ]


def test_start_serves_what_loads_of_several_and_tells_what_does_not(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    add(tmp_path, "2", bad=True)
    lines: list[str] = []
    assert make(policy=All(), announce=lines.append).start().version == 1
    assert lines == ["Model 'm': version 2 failed to load: it is bad."]


def test_specific_versions_that_are_not_there_are_told(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    with pytest.raises(ServingError, match=r"names, .*9.* found version 1\. Change the policy"):
        make(policy=Specific(frozenset({9}))).start()


def test_stop_during_a_load_serves_nothing_and_closes_what_was_loaded(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    loading, go_on = threading.Event(), threading.Event()
    engines = []

    def slow_load(path: Path, version: int) -> Engine:
        if version == 2:
            loading.set()
            assert go_on.wait(10)
        engines.append(load(path, version))
        return engines[-1]

    versions = make(load=slow_load, poll_seconds=0.01)
    versions.start()
    add(tmp_path, "2")
    assert loading.wait(10)
    versions.stop(wait=False)
    with pytest.raises(RequestError):
        serving(versions)
    go_on.set()
    versions.stop()

    assert [engine.closed for engine in engines] == [True, True]  # type: ignore[attr-defined]
    assert states(versions) == {2: "END", 1: "END"}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda base: base.rmdir(), "Could not find base path"),
        (lambda base: (base / "model").mkdir(), "found none .it has model."),
        (lambda base: add(base, "1", bad=True), "version 1, its newest, did not load: it is bad"),
    ],
)
def test_start_fails_with_a_way_out(
    tmp_path: Path, make: Callable[..., ModelVersions], prepare: Any, message: str
) -> None:
    prepare(tmp_path)

    with pytest.raises(ServingError, match=message):
        make().start()


def test_unknown_models_versions_and_labels(
    tmp_path: Path, make: Callable[..., ModelVersions]
) -> None:
    add(tmp_path, "1")
    models = Models(lambda _config: make())
    models.apply([ModelConfig("m", tmp_path)])
    expected = [
        (ModelRequest(""), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (ModelRequest("n"), Code.NOT_FOUND, "Servable not found for request: Latest(n)"),
        (ModelRequest("n", 3), Code.NOT_FOUND, "Servable not found for request: Specific(n, 3)"),
        (ModelRequest("m", 3), Code.NOT_FOUND, "Servable not found for request: Specific(m, 3)"),
        (
            ModelRequest("n", label="l"),
            Code.INVALID_ARGUMENT,
            "Unrecognized servable version label: l",
        ),
    ]
    for request, code, message in expected:
        with pytest.raises(RequestError) as caught, models.use(request):
            pass
        assert (caught.value.code, caught.value.message) == (code, message)

    with models.use(ModelRequest("m", 1)) as servable:
        assert servable.version == 1
    assert [s.state for s in models.statuses(ModelRequest("m", label="ignored"))] == [
        State.AVAILABLE
    ]
