"""Pusher: a blessed servable -> the next version in the serving directory."""

import uuid
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.push.publish import newest_published, publish, servable_digest
from privet.components.shared import artifacts, files, layout
from privet.components.shared.fresh_driver import FreshDriver


class PusherSpec(ComponentSpec):
    """Both blessings are required: nothing unchecked is ever published.

    `push_id` is set by the driver: it names the push that the serving directory shows.
    """

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "base_path": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
        "push_id": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        "servable": ChannelParameter(type=artifacts.ServableModel),
        "blessing": ChannelParameter(type=artifacts.ModelBlessing),
        "infra_blessing": ChannelParameter(type=artifacts.InfraBlessing),
    }
    OUTPUTS = {"pushed": ChannelParameter(type=artifacts.PushedModel)}  # noqa: RUF012


class Driver(FreshDriver):
    """Puts what the serving directory shows into the cache key.

    Without it a cached run would claim a push that a later one has replaced or somebody deleted.
    """

    def fresh_properties(
        self, inputs: dict[str, list[Any]], properties: dict[str, Any]
    ) -> dict[str, Any]:
        """The id of the push that is still the newest version; else a new one."""
        if not all(inputs[name][0].blessed == 1 for name in ("blessing", "infra_blessing")):
            return {"push_id": ""}
        newest = newest_published(properties["base_path"])
        current = newest and newest.digest == servable_digest(inputs["servable"][0].uri)
        return {"push_id": newest.push_id if newest and current else uuid.uuid4().hex}


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
            published = publish(
                artifact_utils.get_single_uri(input_dict["servable"]),
                exec_properties["base_path"],
                exec_properties["push_id"],
            )
            result.update(pushed=True, version=published.version, path=str(published.path))
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
    DRIVER_CLASS = Driver

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
