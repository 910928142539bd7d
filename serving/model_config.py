"""Which models a server serves: TF Serving's ModelServerConfig, read and checked.

The checks and their messages are those of TF Serving's server_core.cc, since they reach clients
that ask to reload; where it would stop with a crash or serve on half of a configuration, this
refuses the whole.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from privet.components.shared.errors import ConfigError
from privet.serving.status import Code, RequestError, invalid_argument
from privet.serving.text_protos import read_text
from privet.serving.version_policy import NEWEST, All, Latest, Policy, Specific

TENSORFLOW = "tensorflow"
TFLITE = "tflite"

_MODEL_TYPE_UNSPECIFIED, _MODEL_TYPE_TENSORFLOW = 0, 1


@dataclass(frozen=True)
class ModelConfig:
    """One model to serve.

    Attributes:
      name: the model's name in requests.
      base_path: an absolute local path; holds one directory for each version.
      policy: which of the versions to serve.
      labels: other names of versions, for requests.
      platform: `tensorflow`; or `tflite`, which serves model.tflite where a version has one.
    """

    name: str
    base_path: Path
    policy: Policy = NEWEST
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = TENSORFLOW


def read_config_file(path: Path) -> tuple[ModelConfig, ...] | None:
    """Reads a text ModelServerConfig.

    Returns:
      None if the file is empty, which asks for no change.

    Raises:
      ConfigError: the file cannot be read, is no ModelServerConfig, or says what cannot be.
    """
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    config = read_text(path, ModelServerConfig(), "model_config_file")
    try:
        return parse_models(config)
    except RequestError as error:
        raise ConfigError(
            f"Wanted a ModelServerConfig that can be served in {path}; {error}. Change the file, "
            "or choose another with --model_config_file."
        ) from error


def parse_models(config: Any) -> tuple[ModelConfig, ...] | None:
    """The models of a ModelServerConfig message.

    Returns:
      None if the message is empty, which asks for no change.

    Raises:
      RequestError: INVALID_ARGUMENT, it says something that cannot be.
    """
    kind = config.WhichOneof("config")
    if kind is None:
        return None
    if kind != "model_config_list":
        raise invalid_argument("ModelServer does not yet support custom model config.")
    names: set[str] = set()
    for model in config.model_config_list.config:
        if model.name in names:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
    return tuple(_parse_model(model) for model in config.model_config_list.config)


def check_platforms(before: Mapping[str, ModelConfig], after: Sequence[ModelConfig]) -> None:
    """Refuses to change the platform of a model that serves.

    Raises:
      RequestError: INVALID_ARGUMENT, a model would change its platform.
    """
    for model in after:
        old = before.get(model.name, model)
        if old.platform != model.platform:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{old.platform} and new platform requested is {model.platform}"
            )


def check_labels(
    before: Mapping[str, ModelConfig],
    after: Sequence[ModelConfig],
    available: Mapping[str, Set[int]],
    allow_unavailable: bool,
) -> None:
    """Refuses labels that would lead requests to a version that does not serve.

    Args:
      before: the models that serve, by name.
      after: the models to serve.
      available: the versions that are AVAILABLE, by model.
      allow_unavailable: accept a new label of any version; a label that is in use still moves
        only to a version that is AVAILABLE, so that its requests go on being answered.

    Raises:
      RequestError: FAILED_PRECONDITION, a label's version is not AVAILABLE.
    """
    for model in after:
        old = before[model.name].labels if model.name in before else {}
        for label, version in model.labels.items():
            in_use_elsewhere = old.get(label, version) != version
            if version in available[model.name] or (allow_unavailable and not in_use_elsewhere):
                continue
            raise RequestError(
                Code.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {model.name}, which is "
                "not currently available for inference",
            )


def _parse_model(model: Any) -> ModelConfig:
    """One entry of the list."""
    if not model.name:
        raise invalid_argument("Wanted a name for every model in config list; got an empty one")
    if "://" in model.base_path:
        raise invalid_argument(
            f"Expected model {model.name} to have a local base path, since this server reads no "
            f"remote ones; got base_path()={model.base_path}"
        )
    if not Path(model.base_path).is_absolute():
        raise invalid_argument(
            f"Expected model {model.name} to have an absolute path or URI; got "
            f"base_path()={model.base_path}"
        )
    if model.HasField("logging_config"):
        raise invalid_argument("No request-logger-creator provided.")
    return ModelConfig(
        name=model.name,
        base_path=Path(model.base_path),
        policy=_parse_policy(model.model_version_policy),
        labels=dict(model.version_labels),
        platform=_platform(model),
    )


def _parse_policy(policy: Any) -> Policy:
    """The version policy; `latest` with one version if none is given."""
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case _:
            return Latest(max(policy.latest.num_versions, 1))


def _platform(model: Any) -> str:
    """The platform, given as such or as the deprecated type."""
    platform: str = model.model_platform
    if model.model_type != _MODEL_TYPE_UNSPECIFIED:
        if platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_type != _MODEL_TYPE_TENSORFLOW:
            raise invalid_argument(
                f"ModelServerConfig::model_type choice {model.model_type} not supported."
            )
        return TENSORFLOW
    if not platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    if platform not in (TENSORFLOW, TFLITE):
        raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")
    return platform
