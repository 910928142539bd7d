"""Predict requests and responses: TF Serving's REST JSON to and from arrays.

Row format: `{"instances": [...]}` -> `{"predictions": [...]}`, one element for each example.
Column format: `{"inputs": ...}` -> `{"outputs": ...}`, whole tensors.
"""

import enum
import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from privet.serving.document import Document
from privet.serving.engine import Signature, TensorSpec, shape_text
from privet.serving.json_arrays import array_texts, compact_numbers
from privet.serving.json_tensor import fill_tensor, is_base64_object
from privet.serving.json_writer import debug_text, quoted
from privet.serving.status import RequestError, invalid_argument

# How `struct` names the types whose lists it converts exactly as TF Serving does, or refuses.
_STRUCT_CODES = {
    "float": "f", "double": "d", "int8": "b", "uint8": "B", "int16": "h", "int32": "i",
    "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip

_ROWS_START, _ROWS_END = b'{\n    "predictions": [', b"\n    ]\n}"


class Format(enum.Enum):
    """How a request gave its tensors, and so how the response gives its."""

    ROW = "instances"
    COLUMN = "inputs"


def read_inputs(document: Document, signature: Signature) -> tuple[dict[str, np.ndarray], Format]:
    """Reads the tensors of a predict request.

    Returns:
      For each input of the signature an array of its type (strings: objects that are bytes), and
      the format. In row format dimension 0 counts the instances.

    Raises:
      RequestError: the request has not these inputs, with TF Serving's message.
    """
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {signature.name}")
    members = document.members
    if "instances" in members and "inputs" in members:
        raise document.format_error(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in members:
        instances = members["instances"]
        if not isinstance(instances, list):
            raise document.format_error("Expecting 'instances' to be an list/array")
        if not instances:
            raise document.format_error("No values in 'instances' array")
        return _read_rows(instances, signature, document.numbers_only), Format.ROW
    if "inputs" in members:
        columns = _read_columns(members["inputs"], signature, document.numbers_only)
        return columns, Format.COLUMN
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def write_outputs(outputs: Mapping[str, np.ndarray], form: Format) -> bytes:
    """Writes the response of a predict request.

    Raises:
      RequestError: INVALID_ARGUMENT, the outputs have no place in this format.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if form is Format.COLUMN:
        return _columns_text(outputs).encode("utf-8", "surrogateescape")
    _check_batch_sizes(outputs)
    if len(outputs) == 1:
        (tensor,) = outputs.values()
        numbers = compact_numbers(tensor) if tensor.size else None
        if numbers is not None:
            return _ROWS_START + numbers[1:-1].replace(b",", b", ") + _ROWS_END
    return _rows_text(outputs).encode("utf-8", "surrogateescape")


def _read_rows(
    instances: list[Any], signature: Signature, numbers_only: bool
) -> dict[str, np.ndarray]:
    """Reads row format: a list of values, or of objects with one value for each input."""
    specs = signature.inputs
    if len(specs) > 1 and not isinstance(instances[0], dict):
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in specs}
    if _is_row_object(instances[0]):
        if numbers_only:
            found = {name: _fast_column(instances, name, specs) for name in specs}
            columns = {name: column for name, column in found.items() if column is not None}
            if len(columns) == len(specs):
                return columns
        for number, instance in enumerate(instances):
            _add_row_object(rows, instance, number, specs)
        return {name: _stacked(rows[name], name) for name in specs}
    # Of several inputs there is one here if the first instance is {"b64": ...}: TF Serving fills
    # the first input with them, and then finds the others missing.
    name, spec = next(iter(specs.items()))
    fast = fast_array(instances, spec) if numbers_only else None
    if fast is not None:
        return {name: fast}
    for number, instance in enumerate(instances):
        if _is_row_object(instance):
            raise invalid_argument(
                f"Expecting value/list but got object at item {number} of input list"
            )
        try:
            _add_row(rows[name], instance, spec, name)
        except RequestError as error:
            raise invalid_argument(
                f"Failed to process element: {number} of 'instances' list. Error: "
                f"{error.code.name}: {error.message}"
            ) from error
    return {name: _stacked(rows[name], name)}


def _stacked(rows: list[np.ndarray], name: str) -> np.ndarray:
    """One tensor of all rows."""
    try:
        return np.stack(rows)
    except (ValueError, IndexError) as error:  # more dimensions than NumPy has
        raise invalid_argument(f"tensor parsing error: {name}") from error


def _fast_column(
    instances: list[Any], name: str, specs: Mapping[str, TensorSpec]
) -> np.ndarray | None:
    """One input's numbers from all row objects; None if the exact path must look at them."""
    keys = specs.keys()
    if not all(isinstance(instance, dict) and instance.keys() == keys for instance in instances):
        return None
    return fast_array([instance[name] for instance in instances], specs[name])


def _add_row_object(
    rows: dict[str, list[np.ndarray]],
    instance: Any,
    number: int,
    specs: Mapping[str, TensorSpec],
) -> None:
    """Reads one object of row format: a value for each input."""
    if not _is_row_object(instance):
        raise invalid_argument(f"Expecting object but got list at item {number} of input list")
    for name, value in instance.items():
        try:
            if name not in specs:
                raise invalid_argument(f"JSON object: does not have named input: {name}")
            _add_row(rows[name], value, specs[name], name)
        except RequestError as error:
            raise invalid_argument(
                f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                f"{error.code.name}: {error.message}"
            ) from error
    if len(instance) != len(specs):
        raise invalid_argument(
            f"Failed to process element: {number} of 'instances' list. JSON object: "
            f"{debug_text(instance)} keys must be equal to: {','.join(sorted(specs))}"
        )


def _add_row(rows: list[np.ndarray], value: Any, spec: TensorSpec, name: str) -> None:
    """Reads one value of row format, which must be shaped like the first one."""
    row = fill_tensor(value, spec, name)
    if rows and row.size != rows[0].size:
        raise invalid_argument(f"Expecting tensor size: {rows[0].size} but got: {row.size}")
    if rows and row.shape != rows[0].shape:
        raise invalid_argument(
            f"Expecting shape {shape_text(rows[0].shape)} but got: {shape_text(row.shape)}"
        )
    rows.append(row)


def _read_columns(value: Any, signature: Signature, numbers_only: bool) -> dict[str, np.ndarray]:
    """Reads column format: one tensor, or an object with a tensor for each input."""
    specs = signature.inputs
    if not isinstance(value, dict) or is_base64_object(value):
        if len(specs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        columns = dict.fromkeys(specs, value)
    else:
        columns = value
    tensors = {}
    for name, spec in specs.items():
        if name not in columns:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        fast = fast_array(columns[name], spec) if numbers_only else None
        tensors[name] = fill_tensor(columns[name], spec, name) if fast is None else fast
    return tensors


def fast_array(value: Any, spec: TensorSpec) -> np.ndarray | None:
    """Reads nested lists of numbers all at once; None if the exact path must look at them.

    The caller knows that there is nothing but numbers (`Document.numbers_only`).
    """
    code = _STRUCT_CODES.get(spec.type_name)
    if code is None or not isinstance(value, list) or not value:
        return None
    shape = [len(value)]
    try:
        while isinstance(value[0], list):
            length = len(value[0])
            if set(map(len, value)) != {length}:
                return None
            shape.append(length)
            if length == 0:  # by the exact path millions of such rows take minutes and gigabytes
                return np.empty(shape, spec.numpy_type)
            value = list(chain.from_iterable(value))
        content = struct.pack(f"={len(value)}{code}", *value)
        return np.frombuffer(content, spec.numpy_type).reshape(shape)
    except (TypeError, ValueError, OverflowError, struct.error):
        return None  # ragged lists, objects, numbers that the type cannot hold


def _columns_text(outputs: Mapping[str, np.ndarray]) -> str:
    """The response in column format."""
    level = 1 if len(outputs) == 1 else 2
    texts = {
        name: array_texts(tensor, kept_axes=0, level=level, as_base64=_is_bytes(name))[0]
        for name, tensor in outputs.items()
    }
    if len(texts) == 1:
        (value,) = texts.values()
    else:
        value = _object_text(texts, "    ")
    return f'{{\n    "outputs": {value}\n}}'


def _rows_text(outputs: Mapping[str, np.ndarray]) -> str:
    """The response in row format, of several outputs or of anything but numbers."""
    level = 2 if len(outputs) == 1 else 3
    columns = {
        name: array_texts(tensor, kept_axes=1, level=level, as_base64=_is_bytes(name))
        for name, tensor in outputs.items()
    }
    count = len(next(iter(columns.values())))
    if count == 0:
        return '{\n    "predictions": []\n}'
    if len(columns) == 1:
        (rows,) = columns.values()
        return f'{{\n    "predictions": [{", ".join(rows)}\n    ]\n}}'
    objects = (
        "\n        " + _object_text({name: texts[row] for name, texts in columns.items()}, " " * 8)
        for row in range(count)
    )
    return f'{{\n    "predictions": [{",".join(objects)}\n    ]\n}}'


def _object_text(members: Mapping[str, str], indent: str) -> str:
    """An object of finished texts; `indent` is that of its closing brace."""
    lines = ",".join(f"\n{indent}    {quoted(name)}: {text}" for name, text in members.items())
    return f"{{{lines}\n{indent}}}"


def _is_bytes(name: str) -> bool:
    """Whether an output's strings are written as base64."""
    return name.endswith("_bytes")


def _check_batch_sizes(outputs: Mapping[str, np.ndarray]) -> None:
    """Refuses outputs that cannot be written example by example."""
    batch_size = None
    for name, tensor in outputs.items():
        if tensor.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch_size is not None and tensor.shape[0] != batch_size:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {tensor.shape[0]} expecting: "
                f"{batch_size}"
            )
        batch_size = tensor.shape[0]


def _is_row_object(value: Any) -> bool:
    """Whether an instance names its inputs."""
    return isinstance(value, dict) and not is_base64_object(value)
