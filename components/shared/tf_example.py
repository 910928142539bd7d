"""tf.train.Example and SequenceExample without TensorFlow.

TensorFlow's import would cost every Beam worker seconds and memory. These are the same messages
(tensorflow/core/example/example.proto and feature.proto), built with protobuf alone, in a
descriptor pool of their own, so that TensorFlow may be imported too. What they serialize to is
what TensorFlow reads and writes.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow"


def _build() -> tuple[Any, Any]:
    """The message classes Example and SequenceExample."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow/core/example/example.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, kind in (
        ("BytesList", _Field.TYPE_BYTES),
        ("FloatList", _Field.TYPE_FLOAT),
        ("Int64List", _Field.TYPE_INT64),
    ):
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, type=kind, label=_Field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("Bytes", "Float", "Int64"), start=1):
        field = _add_message(feature, f"{name.lower()}_list", number, f"{name}List")
        field.oneof_index = 0
    _add_map(file.message_type.add(name="Features"), "feature", "Feature")
    steps = _add_message(file.message_type.add(name="FeatureList"), "feature", 1, "Feature")
    steps.label = _Field.LABEL_REPEATED
    _add_map(file.message_type.add(name="FeatureLists"), "feature_list", "FeatureList")
    _add_message(file.message_type.add(name="Example"), "features", 1, "Features")
    sequence = file.message_type.add(name="SequenceExample")
    _add_message(sequence, "context", 1, "Features")
    _add_message(sequence, "feature_lists", 2, "FeatureLists")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    example, sequence_example = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Example", "SequenceExample")
    )
    return example, sequence_example


def _add_map(message: Any, name: str, kind: str) -> None:
    """A field (number 1) that maps strings to another message."""
    entry_name = "".join(part.title() for part in name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, kind)
    field = _add_message(message, name, 1, f"{message.name}.{entry_name}")
    field.label = _Field.LABEL_REPEATED


def _add_message(message: Any, name: str, number: int, kind: str) -> Any:
    """A field that holds another message."""
    return message.field.add(
        name=name,
        number=number,
        type=_Field.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.{kind}",
        label=_Field.LABEL_OPTIONAL,
    )


Example: Any
SequenceExample: Any
Example, SequenceExample = _build()
"""The message classes: `Example()`, `Example.FromString(record)`, as those of tf.train."""
