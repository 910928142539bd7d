"""Messages made without TensorFlow are TensorFlow's, to the byte."""

import json

from google.protobuf import json_format

from privet.serving import signature_protos
from privet.serving.data_types import DATA_TYPES


def test_messages_and_their_json_are_tensorflows() -> None:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    theirs = SignatureDef(method_name="tensorflow/serving/predict")
    for info, dtype, sizes in (
        (theirs.inputs["pixels"], 1, (-1, 64)),
        (theirs.outputs["scores"], 1, (-1, 10)),
        (theirs.outputs["label"], 9, (0,)),
    ):
        info.name, info.dtype = "StatefulPartitionedCall:0", dtype
        for size in sizes:
            info.tensor_shape.dim.add(size=size, name="axis" if size > 0 else "")
    theirs.outputs["rank"].tensor_shape.unknown_rank = True
    theirs.outputs["rank"].name = "r:0"

    ours = signature_protos.parse_signature(theirs.SerializeToString())

    assert SignatureDef.FromString(ours.SerializeToString()) == theirs
    assert signature_protos.signature_json(ours) == json_format.MessageToDict(
        theirs, including_default_value_fields=True, preserving_proto_field_name=True
    )
    assert json.dumps(signature_protos.signature_json(ours)) == json.dumps(
        signature_protos.signature_json(theirs)
    )


def test_every_type_has_tensorflows_name_and_number() -> None:
    from tensorflow.core.framework import types_pb2

    for number, (name, _) in DATA_TYPES.items():
        assert types_pb2.DataType.Name(number) == f"DT_{name.upper()}"
