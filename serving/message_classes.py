"""Protobuf messages made from a table of their fields, where no installed package has them.

Each call makes a descriptor pool of its own, so that the same messages in another package, such
as TensorFlow's, may be loaded beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = tuple[int, str, str]
"""A field's number, name and type: `string`, `int64`, `bool`, or the full name of
a message or enum. Before the type may stand `repeated`, `map` (from strings), or `oneof NAME` for
one of several fields that exclude each other."""

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "int64": _FIELD.TYPE_INT64,
    "bool": _FIELD.TYPE_BOOL,
}


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
    *modifiers, type_name = kind.split(" ")
    if modifiers == ["map"]:
        entry_name = f"{name.title().replace('_', '')}Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, "", 1, "key", "string", enum_types)
        _add_field(entry, "", 2, "value", type_name, enum_types)
        modifiers, type_name = ["repeated"], f"{full_name}.{entry_name}"
    field = message.field.add(name=name, number=number)
    field.label = _FIELD.LABEL_REPEATED if modifiers == ["repeated"] else _FIELD.LABEL_OPTIONAL
    if modifiers[:1] == ["oneof"]:
        names = [oneof.name for oneof in message.oneof_decl]
        if modifiers[1] not in names:
            message.oneof_decl.add(name=modifiers[1])
            names.append(modifiers[1])
        field.oneof_index = names.index(modifiers[1])
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type = _FIELD.TYPE_ENUM if type_name in enum_types else _FIELD.TYPE_MESSAGE
        field.type_name = f".{type_name}"
