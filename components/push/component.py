"""Pusher: a blessed servable -> the next version in the serving directory."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.push.publish import publish
from privet.components.shared import artifacts, files, layout


class PusherSpec(ComponentSpec):
    """Both blessings are required: nothing unchecked is ever published."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "base_path": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "servable": ChannelParameter(type=artifacts.ServableModel),
        "blessing": ChannelParameter(type=artifacts.ModelBlessing),
        "infra_blessing": ChannelParameter(type=artifacts.InfraBlessing),
    }
    OUTPUTS = {"pushed": ChannelParameter(type=artifacts.PushedModel)}  # noqa: RUF012


class Executor(base_executor.BaseExecutor):
    """Publishes, or says why not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes pushed.json and, for a blessed model, the version directory."""
        verdicts = {
            name: artifact_utils.get_single_instance(input_dict[name])
            for name in ("blessing", "infra_blessing")
        }
        refusals = [
            f"{name.replace('_', ' ')}: refused"
            for name, verdict in verdicts.items()
            if verdict.blessed != 1
        ]
        result: dict[str, Any] = {"schema": 1, "pushed": False, "version": None, "path": None}
        if not refusals:
            version, path = publish(
                artifact_utils.get_single_uri(input_dict["servable"]), exec_properties["base_path"]
            )
            result.update(pushed=True, version=version, path=str(path))
        result["detail"] = "; ".join(refusals)
        pushed = artifact_utils.get_single_instance(output_dict["pushed"])
        files.write_json(files.join(pushed.uri, layout.PUSHED), result)
        pushed.pushed = int(result["pushed"])
        if result["version"] is not None:
            pushed.version = result["version"]


class Pusher(base_component.BaseComponent):
    """Publishes a servable that both validators blessed.

    Args:
      servable: the candidate.
      blessing: the quality gate's verdict.
      infra_blessing: the server trial's verdict.
      base_path: <serving>/<model_name>.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, servable: Channel, blessing: Channel, infra_blessing: Channel, base_path: str
    ):
        folder = Path(__file__).parent
        spec = PusherSpec(
            servable=servable,
            blessing=blessing,
            infra_blessing=infra_blessing,
            base_path=base_path,
            source_version=files.source_digest(folder, folder.parent / "shared"),
            pushed=Channel(type=artifacts.PushedModel),
        )
        super().__init__(spec=spec)
