"""Batching as an engine around an engine: requests that come at the same time run as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from privet.serving.batching_arrays import (
    count_examples,
    has_batch_dimension,
    join_inputs,
    split_outputs,
)
from privet.serving.batching_config import BatchingConfig
from privet.serving.batching_scheduler import BatchScheduler
from privet.serving.engine import Engine, Signature, check_input_types
from privet.serving.status import invalid_argument

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef


@dataclass(frozen=True)
class _Request:
    """What one caller asked for."""

    signature_name: str
    inputs: Mapping[str, np.ndarray]
    output_filter: tuple[str, ...]
    size: int


class BatchingEngine:
    """Runs an engine on batches of requests.

    Requests go together if they have the signature, the wanted outputs and the shapes behind the
    first dimension in common. A request that makes its batch fail does so alone: the others are
    then run one by one. Signatures whose tensors have a first dimension of a fixed size are
    always run request by request.
    """

    may_block = True

    def __init__(self, engine: Engine, config: BatchingConfig) -> None:
        """Wraps an engine, and owns it: `close` closes it too."""
        self._engine = engine
        self._config = config
        self._scheduler: BatchScheduler[_Request, dict[str, np.ndarray]] = BatchScheduler(
            config, self._execute
        )
        self._joinable = {
            name for name, signature in engine.signatures.items() if has_batch_dimension(signature)
        }

    @property
    def kind(self) -> str:
        return self._engine.kind

    @property
    def signature_defs(self) -> Mapping[str, "SignatureDef"]:
        return self._engine.signature_defs

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._engine.signatures

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        """Runs one signature; see `Engine.run`.

        Raises:
          RequestError: also UNAVAILABLE, too many batches wait; INVALID_ARGUMENT, the request is
            larger than any batch may be; FAILED_PRECONDITION, an output has not one row for each
            example.
        """
        check_input_types(self.signatures[signature_name], inputs)
        size, largest = count_examples(inputs), self._config.largest_batch
        if size > self._config.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size "
                f"{self._config.max_batch_size}"
            )
        if size == 0:  # nothing that could be filled up to an allowed size
            return self._engine.run(signature_name, inputs, output_filter)
        if size <= largest:
            return self._run_part(signature_name, inputs, output_filter)
        parts = [
            self._run_part(
                signature_name,
                {name: array[start : start + largest] for name, array in inputs.items()},
                output_filter,
            )
            for start in range(0, size, largest)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Frees the model; see `Engine.close`."""
        self._engine.close()

    def _run_part(
        self, name: str, inputs: Mapping[str, np.ndarray], output_filter: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        """Runs inputs that are no larger than a batch."""
        request = _Request(name, inputs, output_filter, count_examples(inputs))
        lengths = self._config.pad_variable_length_inputs
        arrays = (inputs[key] for key in self.signatures[name].inputs)
        # Lengths that can be filled up may differ; the number of dimensions may not.
        shapes = tuple(array.ndim if lengths else array.shape[1:] for array in arrays)
        return self._scheduler.run(
            (name, output_filter, shapes), request, request.size, alone=name not in self._joinable
        )

    def _execute(self, requests: Sequence[_Request]) -> Sequence[dict[str, np.ndarray]]:
        """Runs requests as one."""
        first, sizes = requests[0], [request.size for request in requests]
        size = sum(sizes)
        if first.signature_name in self._joinable:
            size = self._config.padded_size(size)
        inputs = join_inputs([request.inputs for request in requests], size)
        outputs = self._engine.run(first.signature_name, inputs, first.output_filter)
        return split_outputs(outputs, sizes, size)
