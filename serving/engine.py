"""What the server needs of a loaded model: its signatures, and a function that runs one.

Two engines give it: `engine_saved_model` and `engine_tflite`. The rest of the server knows only
what is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from privet.components.shared.errors import ServingError
from privet.components.shared.signatures import SAVED_MODEL_FILE, TFLITE_FILE
from privet.serving.data_types import DATA_TYPES, array_type_name, data_type_name
from privet.serving.installed import has_tensorflow
from privet.serving.status import invalid_argument

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
      tensor_name: the tensor's name inside the model, such as `serving_default_x:0`.
      type_name: TensorFlow's name of the type, such as `float` or `string`.
      numpy_type: the NumPy type of arrays that hold it (strings: objects that are bytes); None
        for types that NumPy has not.
      shape: -1 for a dimension of any size; None for any rank.
    """

    tensor_name: str
    type_name: str
    numpy_type: type | None
    shape: tuple[int, ...] | None

    @cached_property
    def dtype(self) -> np.dtype | None:
        """The dtype of arrays that hold it, made once: every request compares with it."""
        return None if self.numpy_type is None else np.dtype(self.numpy_type)


@dataclass(frozen=True)
class Signature:
    """A function of the model that clients can call by name.

    Attributes:
      name: its key among the model's signatures.
      method_name: such as `tensorflow/serving/predict`; TF Serving does not look at it.
      inputs: by the names that clients send, sorted.
      outputs: by the names that clients get, sorted.
      may_change_state: a call may leave the model answering otherwise than before, as a training
        step does; so nobody but clients may call it.
    """

    name: str
    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    may_change_state: bool = False


class Engine(Protocol):
    """A loaded model. Any number of threads may call `run` at once."""

    @property
    def kind(self) -> str:
        """`savedmodel` or `tflite`."""

    @property
    def may_block(self) -> bool:
        """Whether `run` may wait for other requests; then an event loop must not call it.

        One that hardly ever waits may say no, and raise WouldBlockError where it would.
        """

    @property
    def signature_defs(self) -> Mapping[str, "SignatureDef"]:
        """The signatures as the model's file holds them; what the metadata API answers."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The same signatures, in the form that the server works with."""

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
          signature_name: a key of `signatures`.
          inputs: for each input of the signature an array of its type. Types are checked; shapes
            as far as the model's operators, called with a wrong one, could not be trusted to.
          output_filter: names of the outputs to return; empty for all.

        Raises:
          RequestError: the model refused these inputs, or failed.
        """

    def close(self) -> None:
        """Frees the model. No call to `run` is under way or will follow."""


def load_engine(
    version_path: Path, prefer_tflite_model: bool, num_tflite_pools: int | None = None
) -> Engine:
    """Loads the model in one version's directory.

    Args:
      version_path: a directory with saved_model.pb, model.tflite, or both.
      prefer_tflite_model: use model.tflite where there is one, and do not read saved_model.pb.
      num_tflite_pools: how many calls of a model.tflite may run at once; by default one for each
        core.

    Raises:
      ServingError: there is no model, or it cannot be loaded here.
    """
    if prefer_tflite_model and (version_path / TFLITE_FILE).is_file():
        from privet.serving.engine_tflite import TFLiteEngine

        return TFLiteEngine((version_path / TFLITE_FILE).read_bytes(), num_tflite_pools)
    if (version_path / SAVED_MODEL_FILE).is_file():
        if not has_tensorflow():
            raise ServingError(
                f"Wanted TensorFlow for {version_path / SAVED_MODEL_FILE}; this install has none. "
                "Add --prefer_tflite_model to serve a model.tflite, or install all of Privet."
            )
        from privet.serving.engine_saved_model import SavedModelEngine

        return SavedModelEngine(version_path)
    hint = (
        "add --prefer_tflite_model to serve the model.tflite that is there"
        if (version_path / TFLITE_FILE).is_file()
        else "publish a whole SavedModel there, by renaming a finished directory"
    )
    raise ServingError(
        f"Could not find SavedModel .pb at supplied export directory path: {version_path}. "
        f"Wanted {SAVED_MODEL_FILE}; {hint}."
    )


def select_outputs(
    outputs: dict[str, np.ndarray], output_filter: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The outputs that were asked for; all if none was named."""
    return {name: outputs[name] for name in output_filter} if output_filter else outputs


def signature_from_proto(name: str, proto: "SignatureDef") -> Signature:
    """Translates a SignatureDef."""
    return Signature(
        name=name,
        method_name=proto.method_name,
        inputs={key: _spec_from_proto(info) for key, info in sorted(proto.inputs.items())},
        outputs={key: _spec_from_proto(info) for key, info in sorted(proto.outputs.items())},
    )


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape in the messages of TensorFlow and TF Serving: [2,3]."""
    return f"[{','.join(map(str, shape))}]"


def check_input_types(signature: Signature, inputs: Mapping[str, np.ndarray]) -> None:
    """Refuses arrays of another type than the signature's, in the words of TensorFlow's runtime.

    Raises:
      RequestError: INVALID_ARGUMENT naming the first input of a wrong type.
    """
    for position, (name, spec) in enumerate(signature.inputs.items()):
        wanted, got = spec.dtype, inputs[name].dtype
        if wanted is None or wanted == got or (wanted.kind == "O" and got.kind == "S"):
            continue
        raise invalid_argument(
            f"Expects arg[{position}] to be {spec.type_name} but {array_type_name(got)} is provided"
        )


def _spec_from_proto(info: "TensorInfo") -> TensorSpec:
    """Translates a TensorInfo."""
    type_name, numpy_type = DATA_TYPES.get(info.dtype, (data_type_name(info.dtype), None))
    shape = info.tensor_shape
    unknown = shape.unknown_rank or not info.HasField("tensor_shape")
    return TensorSpec(
        tensor_name=info.name,
        type_name=type_name,
        numpy_type=numpy_type,
        shape=None if unknown else tuple(dimension.size for dimension in shape.dim),
    )
