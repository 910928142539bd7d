"""The configuration of a whole run: one YAML file, checked before anything starts."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from privet.components.audit.config import AuditConfig
from privet.components.compress.config import CompressConfig, clients_refused
from privet.components.evaluate.config import EvaluateConfig
from privet.components.ingest.config import SPAN, IngestConfig
from privet.components.push.config import PushConfig
from privet.components.select.config import CardConfig, SelectConfig
from privet.components.shared import files
from privet.components.shared.configuration import Config, check
from privet.components.shared.errors import ConfigError
from privet.components.shared.user_code import Argument
from privet.components.train.config import TrainConfig
from privet.components.validate.config import GateConfig, InfraConfig
from privet.pipeline.model_file import check_model_file


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also takes 1e-5 for a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class ModelConfig(Config, frozen=True):
    """The user's model.

    Attributes:
      module_file: a Python file.
      function: the function in it that returns an uncompiled tf.keras.Model.
      arguments: that it is called with, by name.
    """

    module_file: str
    function: str = "build_model"
    arguments: dict[str, Argument] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.arguments.items():
            finite = not isinstance(value, float) or math.isfinite(value)
            check(finite, f"arguments: {name}={value} must be finite")


_SET_BY_RUNNER = {"--runner", "--direct_running_mode", "--direct_num_workers"}
_WHERE_PRIVET_IS = {"--environment_type", "--sdk_container_image"}


class BeamConfig(Config, frozen=True):
    """Where the Beam steps run.

    Attributes:
      runner: `local`, this machine; or one of Beam's runners: `flink`, `spark`, `dataflow`, or
        `portable` for any other that has a job service.
      workers: processes of this machine that `local` runs on; 0 for this process alone.
      options: Beam's own options, as on its command lines: `--name=value`.
    """

    runner: Literal["local", "flink", "spark", "dataflow", "portable"] = "local"
    workers: int = 0
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.workers >= 0, f"workers={self.workers} must be >= 0")
        check(
            self.workers == 0 or self.is_local,
            f"workers={self.workers} are processes of this machine, for runner=local. How many a "
            f"runner={self.runner} takes is among its own options",
        )
        for option in self.options:
            check(
                re.match(r"--[A-Za-z]", option) is not None and " " not in option.split("=")[0],
                f"options: {option!r} must be one of Beam's, as --name=value",
            )
            check(
                self.option_name(option) not in _SET_BY_RUNNER,
                f"options: {option!r} is for runner and workers to say",
            )
        names = {self.option_name(option) for option in self.options}
        check(
            self.is_local or bool(names & _WHERE_PRIVET_IS),
            f"runner={self.runner} needs workers that have Privet. Give options either "
            "--environment_type=EXTERNAL and --environment_config=host:port of `privet workers`, "
            "or --sdk_container_image=an image of Dockerfile's target `worker`",
        )

    @property
    def is_local(self) -> bool:
        """Whether all runs on this machine."""
        return self.runner == "local"

    @staticmethod
    def option_name(option: str) -> str:
        """The name of one of the options."""
        return option.partition("=")[0]


class PipelineConfig(Config, frozen=True):
    """A run from data to serving directory.

    Attributes:
      name: of the pipeline; also the default work directory, runs/<name>.
      model_name: the name that is served; the pipeline's by default.
      seed: of everything random but privacy: initial weights, order of examples, sampling
        without privacy.
      public_data: data of nobody in particular, which compression may look at: a source as in
        `data`, from which it takes features and label; none by default.
      data, model, train, compress, evaluate, audit, select, gate, infra, push, beam: one section
        per step.
      card: what the model's card says beside the facts of the run.
    """

    name: str
    data: IngestConfig
    model: ModelConfig
    train: TrainConfig
    gate: GateConfig
    model_name: str | None = None
    seed: int = 0
    public_data: IngestConfig | None = None
    compress: CompressConfig = CompressConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    audit: AuditConfig = AuditConfig()
    select: SelectConfig = SelectConfig()
    card: CardConfig = CardConfig()
    infra: InfraConfig = InfraConfig()
    push: PushConfig = PushConfig()
    beam: BeamConfig = BeamConfig()

    def __post_init__(self) -> None:
        for name in (self.name, self.served_name):
            allowed = name.replace("-", "").replace("_", "").replace(".", "").isalnum()
            check(
                allowed and name[0].isalnum(),
                f"name={name!r} must be letters, digits, '-', '_' or '.', first a letter or digit",
            )
        check(self.seed >= 0, f"seed={self.seed} must be >= 0")
        personalization, set_apart = self.evaluate.personalization, self.data.split.personalization
        check(
            not (set_apart and personalization and personalization.share),
            f"evaluate.personalization.share and data.split.personalization={set_apart} both say "
            "which part of its examples a client adapts to. Remove one of them",
        )
        self.evaluate.check_task(self.data.label.task)
        self.evaluate.check_training(stops_by_clients=self.train.early_stop is not None)
        self._check_gate()
        self.train.check_metrics(self.data.label.task)
        self._check_compression()

    def _check_gate(self) -> None:
        """Checks that every rule names a number that there will be."""
        parts = {
            "membership": self.audit.membership,
            "canaries": self.train.canaries is not None,
        }
        self.gate.check_metrics(
            list(self.evaluate.metric_directions(self.data.label.task)),
            slices=[one.name for one in self.evaluate.slices],
            personalized=self.evaluate.personalization is not None,
            audited=[part for part, done in parts.items() if done],
        )

    def _check_compression(self) -> None:
        """Checks that variants can be made, and without the data of private clients."""
        compress, asking = self.compress, self.compress.asking_for_clients
        check(not (asking and self.train.privacy.is_private), clients_refused(asking))
        check(
            self.public_data is not None or not compress.wants_public_data,
            "compress.variants: ranges=public and fine_tuning want public_data, which is missing. "
            "Give public_data.files, or set ranges: synthetic",
        )
        check(
            self.train.quantization_aware is not None or not compress.wants_trained_ranges,
            "compress.variants: ranges=trained wants train.quantization_aware, which is missing. "
            "Give it, or set ranges: synthetic or public",
        )
        check(
            self.select.variant is None or self.select.variant in compress.servable,
            f"select.variant={self.select.variant} must be one of the variants that can be served: "
            f"{', '.join(compress.servable)}",
        )

    @property
    def served_name(self) -> str:
        """The name that is served."""
        return self.model_name or self.name

    @property
    def training(self) -> TrainConfig:
        """The train section, with `engine: auto` settled where the runner settles it."""
        if self.beam.is_local or self.train.engine != "auto":
            return self.train
        return msgspec.structs.replace(self.train, engine="beam")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Reads a configuration file.

    Relative paths in it (data.files, model.module_file and the like) start at the file's folder.

    Args:
      path: the YAML file.
      overrides: `key.path=value`, the value in YAML.

    Raises:
      ConfigError: the file is missing or not YAML, a key or value is wrong, or the model's file
        or function does not exist.
    """
    path = Path(path)
    values = read_yaml(path)
    for override in overrides:
        _override(values, override)
    folder = path.resolve().parent
    if isinstance(values.get("data"), dict) and "schema_file" in values["data"]:
        values["data"] = _with_schema(folder, values["data"])
    if isinstance(values.get("data"), dict) and isinstance(values.get("public_data"), dict):
        values["public_data"] = _like_data(values["public_data"], values["data"])
    config = PipelineConfig.from_mapping(values)
    config = msgspec.structs.replace(
        config,
        data=_absolute_data(folder, config.data),
        public_data=config.public_data and _absolute_data(folder, config.public_data),
        model=msgspec.structs.replace(
            config.model, module_file=_absolute(folder, config.model.module_file)
        ),
        train=_absolute_train(folder, config.train),
        evaluate=_absolute_evaluate(folder, config.evaluate),
    )
    check_model_file(config.model.module_file, config.model.function, config.model.arguments)
    _check_public_files(config)
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
      ConfigError: the file is missing, not YAML, or holds something else.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, not {type(values).__name__}")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    """Applies `train.privacy.epsilon=2` in place."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r} must be key.path=value, as train.rounds=10")
    *parents, last = key.split(".")
    target: Any = values
    for part in parents:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ConfigError(f"--set {key}: {part!r} is not a section of the configuration")
    try:
        target[last] = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: {text!r} is not a YAML value") from error


def _with_schema(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The data section with the keys of its schema file; what the section says itself wins."""
    name = str(data["schema_file"])
    path = Path(_absolute(folder, name))
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read data.schema_file={name!r}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"data.schema_file={name!r} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigError(
            f"data.schema_file={name!r} must hold an object with client_id, features and label"
        )
    return {key: value for key, value in {**schema, **data}.items() if key != "schema_file"}


_TAKEN_FROM_DATA = ("label", "features", "format", "max_reject_fraction", "corrupt_files")

_NO_CLIENTS = {"kind": "iid", "clients": 8}
"""Public rows belong to nobody, but the store wants them in groups."""


def _like_data(public: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The public_data section with what it leaves out taken from data."""
    taken = {key: data[key] for key in _TAKEN_FROM_DATA if key in data}
    named = {"client_id", "partition", "dataset"} & public.keys()
    return {**taken, **({} if named else {"partition": _NO_CLIENTS}), **public}


def _check_public_files(config: PipelineConfig) -> None:
    """Refuses public data that are the clients' own, by whatever pattern they are named."""
    if config.public_data is None:
        return
    clients, public = (
        {
            str(Path(found).resolve()) if files.is_local(found) else found
            for pattern in data.patterns
            for found in _files_now(pattern)
        }
        for data in (config.data, config.public_data)
    )
    both = sorted(clients & public)
    shared = [f"files holds {both[0]}, which is one of"] if both else []
    shared += [
        f"{name} is that of"
        for name, of in _OTHER_SOURCES.items()
        if (one := getattr(config.data, name)) is not None
        and (other := getattr(config.public_data, name)) is not None
        and of(one) == of(other)
    ]
    if shared:
        name = shared[0].split()[0]
        raise ConfigError(
            f"public_data.{shared[0]} the clients' in data.{name}. What is public is promised "
            "nothing: give others, or set ranges: synthetic in compress.variants."
        )


def _files_now(pattern: str) -> list[str]:
    """The local files that a pattern names now, of whichever span; others by their pattern."""
    if not files.is_local(pattern):
        return [pattern]
    return files.match(pattern.replace(SPAN, "*"))


_OTHER_SOURCES: dict[str, Callable[[Any], Any]] = {
    "sql": lambda sql: (sql.url, " ".join(sql.query.split())),
    "python": lambda python: (str(Path(python.module_file).resolve()), python.function),
    # Only in stackoverflow do the parts hold different people.
    "dataset": lambda data: (data.name, data.split if data.name == "stackoverflow" else None),
}
"""Source other than files -> by what the same rows are known."""


def _absolute_data(folder: Path, data: IngestConfig) -> IngestConfig:
    """The data section with its relative paths resolved."""
    replaced: dict[str, Any] = {"files": tuple(_absolute(folder, p) for p in data.patterns)}
    if data.salt_file is not None:
        replaced["salt_file"] = _absolute(folder, data.salt_file)
    if data.python is not None:
        module_file = _absolute(folder, data.python.module_file)
        replaced["python"] = msgspec.structs.replace(data.python, module_file=module_file)
    if data.dataset is not None and data.dataset.cache_dir is not None:
        cache_dir = _absolute(folder, data.dataset.cache_dir)
        replaced["dataset"] = msgspec.structs.replace(data.dataset, cache_dir=cache_dir)
    return msgspec.structs.replace(data, **replaced)


def _absolute_train(folder: Path, train: TrainConfig) -> TrainConfig:
    """The train section with its relative paths resolved."""
    replaced: dict[str, Any] = {}
    if train.initial_weights is not None:
        replaced["initial_weights"] = _absolute(folder, train.initial_weights)
    if (budget := train.privacy.population_budget) is not None:
        budget = msgspec.structs.replace(budget, file=_absolute(folder, budget.file))
        replaced["privacy"] = msgspec.structs.replace(train.privacy, population_budget=budget)
    return msgspec.structs.replace(train, **replaced)


def _absolute_evaluate(folder: Path, evaluate: EvaluateConfig) -> EvaluateConfig:
    """The evaluate section with its relative paths resolved."""
    metrics = tuple(
        msgspec.structs.replace(one, module_file=_absolute(folder, one.module_file))
        for one in evaluate.metrics
    )
    slices = tuple(
        msgspec.structs.replace(one, file=one.file and _absolute(folder, one.file))
        for one in evaluate.slices
    )
    return msgspec.structs.replace(evaluate, metrics=metrics, slices=slices)


def _absolute(folder: Path, path: str) -> str:
    return path if "://" in path else str(folder / path)
