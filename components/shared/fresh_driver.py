"""A TFX driver that adds to the cache key what TFX does not look at, such as files' contents."""

import abc
from typing import Any

from tfx.dsl.components.base import base_driver as component_driver
from tfx.orchestration import data_types_utils
from tfx.orchestration.portable import base_driver as node_driver
from tfx.proto.orchestration import driver_output_pb2


class FreshDriver(component_driver.BaseDriver, node_driver.BaseDriver):
    """Base of the drivers of components whose result depends on more than their inputs.

    TFX wants both bases: the first for a component's DRIVER_CLASS, the second to run.
    """

    def __init__(self, metadata_handle: Any):
        component_driver.BaseDriver.__init__(self, metadata_handle)
        node_driver.BaseDriver.__init__(self, metadata_handle)

    @abc.abstractmethod
    def fresh_properties(
        self, inputs: dict[str, list[Any]], properties: dict[str, Any]
    ) -> dict[str, Any]:
        """Execution properties to add, read anew in every run.

        Args:
          inputs: the resolved input artifacts.
          properties: the execution properties so far.
        """

    def run(self, execution_info: Any) -> driver_output_pb2.DriverOutput:
        """Returns the execution properties with the fresh ones, and the outputs unchanged."""
        properties = dict(execution_info.exec_properties)
        properties |= self.fresh_properties(execution_info.input_dict, properties)
        output = driver_output_pb2.DriverOutput()
        for name, value in properties.items():
            if value is not None:
                data_types_utils.set_metadata_value(output.exec_properties[name], value)
        for name, found in execution_info.output_dict.items():
            output.output_artifacts[name].artifacts.extend(a.mlmd_artifact for a in found)
        return output
