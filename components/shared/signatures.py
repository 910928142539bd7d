"""The signatures of a servable: their names, its files' names, and SignatureDefs inside a .tflite.

The TensorFlow converter keeps a model's signatures in a table of its own; TF Serving, with
`--prefer_tflite_model`, does not read that table. It reads a metadata buffer named
`signature_defs_metadata`, and without one it makes names up (`serving_default_x`), so that the
same model would answer to other names as SavedModel and as TFLite. The functions here write and
read that buffer (after TensorFlow Lite's `tools/signature/signature_def_util.cc`: a flexbuffers
map, signature key -> serialized SignatureDef as a flexbuffers String); `signatures_reader` reads
it without TensorFlow.

In such a SignatureDef the keys of `inputs` and `outputs` are the names that users send and get;
each tensor's `name` is the name of the TFLite tensor, by which TF Serving finds it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from privet.components.shared.errors import ServingError
from privet.components.shared.signatures_reader import (
    FILE_IDENTIFIER,
    METADATA_NAME,
    check_identifier,
    read_serialized_signatures,
    unreadable_signatures,
)

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

SERVING_DEFAULT = "serving_default"
CLASSIFY = "classify"
REGRESS = "regress"

PREDICT_METHOD_NAME = "tensorflow/serving/predict"
CLASSIFY_METHOD_NAME = "tensorflow/serving/classify"
REGRESS_METHOD_NAME = "tensorflow/serving/regress"

# The tensors that a classify or a regress signature must have.
EXAMPLES_INPUT = "inputs"
CLASSES_OUTPUT = "classes"
SCORES_OUTPUT = "scores"
REGRESSION_OUTPUT = "outputs"

PREDICTION_OUTPUT = "prediction"
"""Output of serving_default for regression; for classification it is SCORES_OUTPUT."""

SAVED_MODEL_FILE = "saved_model.pb"
TFLITE_FILE = "model.tflite"
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"

_BUFFER_ALIGNMENT = 16  # of Buffer.data in TensorFlow Lite's schema.fbs


def predict_output(task: str) -> str:
    """The output of serving_default, by the prediction task."""
    return PREDICTION_OUTPUT if task == "regression" else SCORES_OUTPUT


def with_signature_metadata(tflite: bytes, signatures: Mapping[str, "SignatureDef"]) -> bytes:
    """Returns the model with these signatures in the buffer that TF Serving reads.

    Signatures that the buffer held before are replaced.

    Args:
      tflite: a TFLite model, as its file's bytes.
      signatures: key -> SignatureDef; at least one.

    Raises:
      ServingError: there is no signature, `tflite` is no model, or a serialized signature holds
        a zero byte, at which TF Serving would cut it off.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    if not signatures:
        raise ServingError(
            "Wanted at least one signature to write into the TFLite model; got none. Pass "
            "{'serving_default': tflite_signature(model, 'serving_default')}."
        )
    buffer = list(_flexbuffer_map({key: _serialized(key, s) for key, s in signatures.items()}))
    model = _model_object(tflite)
    model.metadata = list(model.metadata or [])
    for entry in model.metadata:
        if _text(entry.name) == METADATA_NAME:
            model.buffers[entry.buffer].data = buffer
            break
    else:
        holder = schema.BufferT()
        holder.data = buffer
        model.buffers.append(holder)
        entry = schema.MetadataT()
        entry.name = METADATA_NAME
        entry.buffer = len(model.buffers) - 1
        model.metadata.append(entry)
    return _packed(model)


def read_signature_metadata(tflite: bytes) -> dict[str, "SignatureDef"]:
    """Returns the signatures in the buffer that TF Serving reads; {} when there is none.

    Raises:
      ServingError: `tflite` is no model, or the buffer holds something else.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    serialized = read_serialized_signatures(tflite)
    try:
        return {key: SignatureDef.FromString(data) for key, data in serialized.items()}
    except DecodeError as error:
        raise unreadable_signatures(error) from error


def tflite_signature(tflite: bytes, key: str) -> "SignatureDef":
    """Derives a SignatureDef from the model's own TFLite signature table.

    Args:
      tflite: a TFLite model, as its file's bytes.
      key: the signature's key, such as `serving_default`.

    Returns:
      The SignatureDef: names as users know them, TFLite tensor names, TensorFlow's dtypes, and
      shapes with -1 for dimensions that may change. The shape of a scalar is left out: its
      empty message would put a zero byte into the metadata buffer.

    Raises:
      ServingError: the model has no such signature, or TF Serving could not run it.
    """
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    model = _model_root(tflite)
    table = {
        _text(model.SignatureDefs(i).SignatureKey()): model.SignatureDefs(i)
        for i in range(model.SignatureDefsLength())
    }
    if key not in table:
        raise ServingError(
            f"Wanted signature {key!r} in the TFLite model; it has {sorted(table)}. Convert it "
            f"from a SavedModel with signature_keys=[{key!r}]."
        )
    if table[key].SubgraphIndex() != 0:
        raise ServingError(
            f"Signature {key!r} is subgraph {table[key].SubgraphIndex()} of the TFLite model; TF "
            f"Serving runs subgraph 0 only. Convert with signature_keys=[{key!r}] alone."
        )
    graph = model.Subgraphs(0)
    signature = SignatureDef(method_name=PREDICT_METHOD_NAME)
    for i in range(table[key].InputsLength()):
        entry = table[key].Inputs(i)
        _fill(signature.inputs[_text(entry.Name())], graph.Tensors(entry.TensorIndex()))
    for i in range(table[key].OutputsLength()):
        entry = table[key].Outputs(i)
        _fill(signature.outputs[_text(entry.Name())], graph.Tensors(entry.TensorIndex()))
    return signature


def _fill(info: Any, tensor: Any) -> None:
    """Fills a TensorInfo from a tensor of the TFLite schema."""
    info.name = _text(tensor.Name())
    info.dtype = _tensorflow_type(tensor.Type())
    if tensor.ShapeSignatureLength():
        sizes = tensor.ShapeSignatureAsNumpy().tolist()
    else:
        sizes = tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else []
    for size in sizes:
        info.tensor_shape.dim.add(size=size)


def _tensorflow_type(tflite_type: int) -> int:
    """TensorFlow's DataType for a tensor type of the TFLite schema."""
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    name = names.get(tflite_type, str(tflite_type)).lower()
    try:
        return int(tf.dtypes.as_dtype(name).as_datatype_enum)
    except TypeError as error:
        raise ServingError(
            f"Wanted tensors of a type that TensorFlow has too; the TFLite model has {name!r}. "
            "Export the model with other inputs and outputs."
        ) from error


def _serialized(key: str, signature: "SignatureDef") -> bytes:
    """The signature's bytes, always the same for the same signature, without a zero byte."""
    data = bytes(signature.SerializeToString(deterministic=True))
    if b"\0" in data:
        raise ServingError(
            f"Signature {key!r} cannot be kept in a TFLite model: serialized it holds a zero "
            "byte, where TF Serving stops reading. Leave the shape of scalars out of it "
            "(tensor_shape with no dimension) and use no dimension of size 0."
        )
    return data


def _flexbuffer_map(entries: Mapping[str, bytes]) -> bytes:
    """Encodes key -> bytes as a flexbuffers map whose values are of type String."""
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in entries.items():
            builder.String(key.encode(), _Bytes(value))
    return bytes(builder.Finish())


class _Bytes:
    """Bytes that pass for a text, since the Python builder encodes every String it is given."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def encode(self, _encoding: str) -> bytes:
        return self.value


def _model_root(tflite: bytes) -> Any:
    """The model as the schema's reader, which copies nothing."""
    from tensorflow.lite.python import schema_py_generated as schema

    check_identifier(tflite)
    return schema.Model.GetRootAsModel(tflite, 0)


def _model_object(tflite: bytes) -> Any:
    """The model as an object that can be changed and packed again."""
    from tensorflow.lite.tools import flatbuffer_utils

    _model_root(tflite)
    return flatbuffer_utils.convert_bytearray_to_object(tflite)


def _packed(model: Any) -> bytes:
    """The model as a file's bytes, with the weights aligned to 16 bytes as the schema demands.

    TensorFlow's own `flatbuffer_utils` aligns them to 1: a processor that reads floats at even
    addresses only would stumble.
    """
    import flatbuffers

    class AlignedBuilder(flatbuffers.Builder):
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            wanted = _BUFFER_ALIGNMENT if elemSize == 1 else alignment
            return super().StartVector(elemSize, numElems, wanted)

    builder = AlignedBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def _text(value: Any) -> str:
    """A name from the schema's reader (bytes), its objects (bytes or text), or nothing."""
    return value.decode() if isinstance(value, bytes) else str(value or "")
