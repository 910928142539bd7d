"""Protobuf messages made from a table of their fields, where no installed package has them.

Each call makes a descriptor pool of its own, so that the same messages in another package, such
as TensorFlow's, may be loaded beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = tuple[int, str, str]
"""A field's number, name and type: `string`, `int64`, `bool`, the full name of a message or enum,
or one of these after `repeated `, or after `map ` for a map from strings."""

_TYPES = descriptor_pb2.FieldDescriptorProto


def message_classes(
    file_name: str,
    package: str,
    messages: Mapping[str, Sequence[Field]],
    *,
    enums: Mapping[str, Mapping[str, int]] | None = None,
    dependencies: Sequence[Any] = (),
) -> dict[str, Any]:
    """Makes proto3 messages.

    Args:
      file_name: what to call the file that would define them.
      package: their package.
      messages: name -> its fields.
      enums: name -> its values; the first must be 0.
      dependencies: descriptors of the files whose messages are used too.

    Returns:
      Name -> message class.
    """
    enums = enums or {}
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name=file_name, package=package, syntax="proto3")
    for descriptor in dependencies:
        dependency = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(dependency)
        pool.Add(dependency)
        file.dependency.append(dependency.name)
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for value_name, number in values.items():
            enum.value.add(name=value_name, number=number)
    enum_types = {f"{package}.{name}" for name in enums}
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            _add_field(message, f"{package}.{name}", number, field_name, kind, enum_types)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add_field(
    message: Any, full_name: str, number: int, name: str, kind: str, enum_types: set[str]
) -> None:
    if kind.startswith("map "):
        entry_name = f"{name.title().replace('_', '')}Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, "", 1, "key", "string", enum_types)
        _add_field(entry, "", 2, "value", kind.removeprefix("map "), enum_types)
        kind = f"repeated {full_name}.{entry_name}"
    repeated = kind.startswith("repeated ")
    label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    match kind.removeprefix("repeated "):
        case "bool":
            field.type = _TYPES.TYPE_BOOL
        case "string":
            field.type = _TYPES.TYPE_STRING
        case "int64":
            field.type = _TYPES.TYPE_INT64
        case type_name:
            is_enum = type_name in enum_types
            field.type = _TYPES.TYPE_ENUM if is_enum else _TYPES.TYPE_MESSAGE
            field.type_name = f".{type_name}"
