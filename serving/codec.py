"""Predict requests and responses: TF Serving's REST JSON to and from arrays.

Row format: `{"instances": [...]}` -> `{"predictions": [...]}`, one element for each example.
Column format: `{"inputs": ...}` -> `{"outputs": ...}`, whole tensors.
"""

import enum
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from privet.serving.document import Document
from privet.serving.engine import Signature, TensorSpec
from privet.serving.json_tensor import INTEGER_TYPES, fill_tensor, is_base64_object, write_tensor
from privet.serving.json_writer import PrettyWriter, debug_text
from privet.serving.status import RequestError, invalid_argument


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
    writer = PrettyWriter()
    writer.start_object()
    if form is Format.COLUMN:
        writer.string("outputs")
        _write_columns(writer, outputs)
    else:
        _check_batch_sizes(outputs)
        if len(outputs) == 1:
            fast = _fast_rows(next(iter(outputs.values())))
            if fast is not None:
                return fast
        writer.string("predictions")
        _write_rows(writer, outputs)
    writer.end_object()
    return writer.text().encode("utf-8", "surrogateescape")


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
        for number, instance in enumerate(instances):
            _add_row_object(rows, instance, number, specs)
        return {name: np.stack(rows[name]) for name in specs}
    ((name, spec),) = specs.items()
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
    return {name: np.stack(rows[name])}


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
            f"Expecting shape {_shape_text(rows[0].shape)} but got: {_shape_text(row.shape)}"
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
    """Reads nested lists of numbers at NumPy's speed; None if the slow path must look at them.

    The caller knows that there is nothing but numbers (`Document.numbers_only`).
    """
    if not isinstance(value, list):
        return None
    try:
        with np.errstate(over="ignore"):
            if spec.type_name in ("float", "double"):
                return np.array(value, dtype=spec.numpy_type)
            if spec.type_name in INTEGER_TYPES and spec.numpy_type is not None:
                found = np.array(value)
                limits: np.iinfo[Any] = np.iinfo(spec.numpy_type)
                if (
                    found.dtype.kind in "iu"
                    and int(found.min()) >= limits.min
                    and int(found.max()) <= limits.max
                ):
                    return found.astype(spec.numpy_type)
    except (TypeError, ValueError, OverflowError):
        return None  # ragged lists, empty ones of integers, an empty object
    return None


def _write_columns(writer: PrettyWriter, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes the value of `outputs`."""
    if len(outputs) == 1:
        ((name, tensor),) = outputs.items()
        write_tensor(writer, tensor, name)
        return
    writer.start_object()
    for name, tensor in outputs.items():
        writer.string(name)
        write_tensor(writer, tensor, name)
    writer.end_object()


def _write_rows(writer: PrettyWriter, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes the value of `predictions`."""
    writer.start_array()
    for number in range(len(next(iter(outputs.values())))):
        if len(outputs) > 1:
            writer.start_object()
        writer.single_line = True
        for name, tensor in outputs.items():
            if len(outputs) > 1:
                writer.string(name)
            write_tensor(writer, tensor[number : number + 1], name, skip_first_dimension=True)
        writer.single_line = False
        if len(outputs) > 1:
            writer.end_object()
    writer.end_array()


def _fast_rows(tensor: np.ndarray) -> bytes | None:
    """Writes the whole response for one numeric output; None if the slow path must write it.

    orjson prints the shortest digits that read back as the same float of its width, but NaN and
    infinities as null.
    """
    if tensor.dtype.char not in "fdilqILQ?" or tensor.size == 0:
        return None
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        return None
    rows = orjson.dumps(np.ascontiguousarray(tensor), option=orjson.OPT_SERIALIZE_NUMPY)
    return b'{\n    "predictions": ' + rows[:-1].replace(b",", b", ") + b"\n    ]\n}"


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


def _shape_text(shape: tuple[int, ...]) -> str:
    """A shape in TF Serving's messages: [2,3]."""
    return f"[{','.join(map(str, shape))}]"
