"""Checking a batch of rows against the schema: arrays of values, and why rows are refused."""

import dataclasses
import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privet.components.ingest import columns
from privet.components.ingest.batches import Column, RowBatch
from privet.components.ingest.problems import Problems
from privet.components.shared.schema import FeatureConfig, LabelConfig, Schema
from privet.components.shared.storage import SPLITS

MAXIMUM_ID_BYTES = 256
"""Longest client id in UTF-8: the store's index keeps ids at a fixed width."""

_INTEGERS = {"int64": (-(2**63), 2**63 - 1), "uint8": (0, 255)}


@dataclasses.dataclass(frozen=True)
class ParsedBatch:
    """A batch as arrays, row by row; what a refused row holds means nothing.

    Attributes:
      clients: string array [rows]; "" where there is none.
      named: bool [rows]; the client id can be stored, whatever else is wrong with the row.
      splits: uint8 [rows], index into storage.SPLITS; None without a split column.
      features: name -> array [rows, *shape] of the feature's dtype.
      labels: [rows], int64 class or float32 value.
      problems: which rows are refused, and why.
    """

    clients: pa.StringArray
    named: np.ndarray
    splits: np.ndarray | None
    features: dict[str, np.ndarray]
    labels: np.ndarray
    problems: Problems


def parse_batch(batch: RowBatch, schema: Schema, split_column: str | None = None) -> ParsedBatch:
    """Checks every row of a batch.

    Args:
      batch: the rows.
      schema: what an example looks like; learned vocabularies are filled in.
      split_column: the column that names a row's split, if there is one.
    """
    problems = Problems(len(batch))
    clients = _parse_clients(batch, schema.client_id, problems)
    return ParsedBatch(
        clients=clients,
        named=problems.fine.copy(),
        splits=_parse_splits(batch, split_column, problems) if split_column else None,
        features={
            name: _parse_feature(batch, feature, problems)
            for name, feature in schema.features.items()
        },
        labels=parse_labels(batch, schema.label, problems),
        problems=problems,
    )


def parse_labels(batch: RowBatch, label: LabelConfig, problems: Problems) -> np.ndarray:
    """The labels of a batch: int64 classes, or float32 values for regression."""
    column = _column(batch, label.column)
    if label.classes is None:
        values = columns.to_numbers(column, "float", label.column, problems)
        return _as_float32(values, label.column, problems)
    if label.by_name:
        strings = columns.to_strings(column, f"column {label.column}", problems)
        index = pc.index_in(strings, value_set=pa.array(label.class_names))
        unknown = np.asarray(index.is_null())
        problems.mark(unknown, f"label {label.column} is none of the class names")
        return np.asarray(index.fill_null(0)).astype(np.int64)
    classes = columns.to_numbers(column, "int", label.column, problems)
    outside = (classes < 0) | (classes >= label.classes)
    problems.mark(outside, f"label {label.column} is not a class from 0 to {label.classes - 1}")
    return classes


def tokens_of(batch: RowBatch, feature: FeatureConfig, problems: Problems) -> list[list[str]]:
    """The strings that each row holds for a feature with a vocabulary, in order."""
    fill = feature.fill_missing
    assert fill is None or isinstance(fill, str)  # FeatureConfig checks it
    if feature.tokens != "whole" or len(feature.column_names) > 1:
        texts = [
            columns.to_strings(_column(batch, name), f"column {name}", problems, fill).to_pylist()
            for name in feature.column_names
        ]
        if len(texts) > 1:
            return [list(row) for row in zip(*texts, strict=True)]
        return [_split_text(text, feature.tokens) for text in texts[0]]
    name = feature.column_names[0]
    column = columns.decoded(_column(batch, name))
    if columns.is_list(column):
        return _token_lists(column, name, problems, fill)
    strings = columns.to_strings(column, f"column {name}", problems, fill)
    return [[text] for text in strings.to_pylist()]


def _parse_clients(batch: RowBatch, name: str, problems: Problems) -> pa.StringArray:
    ids = columns.to_strings(_column(batch, name), "the client id", problems)
    problems.mark(
        np.asarray(pc.ends_with(ids, "\0")), "the client id ends in a NUL character"
    )  # the store's index would lose it
    long = np.asarray(pc.greater(pc.binary_length(ids), MAXIMUM_ID_BYTES))
    problems.mark(long, f"the client id is longer than {MAXIMUM_ID_BYTES} bytes")
    return ids


def _parse_splits(batch: RowBatch, name: str, problems: Problems) -> np.ndarray:
    inner = Problems(len(batch))  # whatever is wrong, the reason is the same
    strings = columns.to_strings(_column(batch, name), name, inner)
    index = pc.index_in(strings, value_set=pa.array(SPLITS))
    unknown = np.asarray(index.is_null())
    problems.mark(unknown, f"column {name} must be one of {', '.join(SPLITS)}")
    return np.asarray(index.fill_null(0)).astype(np.uint8)


def _parse_feature(batch: RowBatch, feature: FeatureConfig, problems: Problems) -> np.ndarray:
    shape = (len(batch), *feature.example_shape)
    if feature.encoding == "image":
        return _decode_images(batch, feature, problems)
    if feature.is_text:
        return _indices(batch, feature, problems).reshape(shape)
    return _parse_values(batch, feature, problems).reshape(shape)


def _parse_values(batch: RowBatch, feature: FeatureConfig, problems: Problems) -> np.ndarray:
    """Numbers [rows, size], checked against the dtype and the range."""
    names = feature.column_names
    size = math.prod(feature.example_shape)
    kind: columns.Kind = "float" if feature.dtype == "float32" else "int"
    fill = feature.fill_missing
    assert not isinstance(fill, str)  # FeatureConfig checks it
    found = [columns.decoded(_column(batch, name)) for name in names]
    if len(names) > 1 or (size == 1 and not columns.is_vector(found[0])):
        numbers = [
            columns.to_numbers(column, kind, name, problems, fill)
            for name, column in zip(names, found, strict=True)
        ]
        values = np.stack(numbers, axis=1)
    else:
        values = columns.to_vectors(found[0], kind, size, names[0], problems, fill)
    if feature.dtype == "float32":
        values = _as_float32(values, names, problems)
    else:
        low, high = _INTEGERS[feature.dtype]
        outside = _outside(values, low, high)
        _mark_column(outside, names, f"is not a {feature.dtype}", problems)
        values = values.astype(feature.dtype, copy=False)
    if feature.minimum is not None or feature.maximum is not None:
        outside = _outside(values, feature.minimum, feature.maximum)
        reason = f"is outside [{feature.minimum}, {feature.maximum}]"
        _mark_column(outside, names, reason, problems)
    return values


def _outside(values: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    """bool [rows, columns]; comparisons that the dtype decides alone are not made."""
    outside = np.zeros(values.shape, bool)
    limits = np.iinfo(values.dtype) if values.dtype.kind in "iu" else None
    if low is not None and (limits is None or low > limits.min):
        outside |= values < low
    if high is not None and (limits is None or high < limits.max):
        outside |= values > high
    return outside


def _as_float32(values: np.ndarray, names: str | tuple[str, ...], problems: Problems) -> np.ndarray:
    # Rounded first: the shortest digits that mean the largest float32 lie a little above it.
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32, copy=False)
    outside = ~np.isfinite(rounded)
    if outside.any():
        names = (names,) if isinstance(names, str) else names
        outside = outside.reshape(len(values), -1)
        _mark_column(outside, names, "is not a finite float32", problems)
    return rounded


def _mark_column(
    wrong: np.ndarray, names: tuple[str, ...], reason: str, problems: Problems
) -> None:
    """Refuses the rows of bool [rows, values], naming the first wrong column of each row."""
    if not wrong.any():
        return
    if len(names) == 1:
        problems.mark(wrong.any(axis=1), f"column {names[0]} {reason}")
        return
    first = wrong.argmax(axis=1)
    for index in np.unique(first[wrong.any(axis=1)]):
        rows = wrong.any(axis=1) & (first == index)
        problems.mark(rows, f"column {names[index]} {reason}")


def _decode_images(batch: RowBatch, feature: FeatureConfig, problems: Problems) -> np.ndarray:
    (name,) = feature.column_names
    images = np.zeros((len(batch), *feature.example_shape), np.uint8)
    column = columns.python_values(columns.decoded(_column(batch, name)))
    for row, value in enumerate(column):
        if value is None or (isinstance(value, bytes) and not value):
            problems.mark_row(row, f"column {name} is missing")
        elif not isinstance(value, bytes):
            problems.mark_row(row, f"column {name} is not a PNG or JPEG image")
        else:
            image = _decode_image(value, feature.example_shape)
            if isinstance(image, str):
                problems.mark_row(row, f"column {name} {image}")
            else:
                images[row] = image
    return images


def _decode_image(content: bytes, shape: tuple[int, ...]) -> np.ndarray | str:
    """The image as uint8 of the shape, or why not."""
    from PIL import Image

    mode = "RGB" if shape[2:] == (3,) else "L"
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if (image.height, image.width) != shape[:2]:
                return f"is not an image of {shape[0]} x {shape[1]} pixels"
            return np.asarray(image.convert(mode)).reshape(shape)
    except Exception:  # Pillow raises errors of many types on broken files
        return "is not a PNG or JPEG image"


def _indices(batch: RowBatch, feature: FeatureConfig, problems: Problems) -> np.ndarray:
    """Vocabulary indices int64 [rows, size]."""
    size = math.prod(feature.example_shape)
    tokens = tokens_of(batch, feature, problems)
    first = 0 if feature.tokens == "whole" else 1
    known = {token: index for index, token in enumerate(feature.vocabulary or (), first)}
    indices = np.zeros((len(batch), size), np.int64)
    named = feature.column_names[0]
    for row, row_tokens in enumerate(tokens):
        row_indices = [known.get(token, -1) for token in row_tokens[:size]]
        if feature.tokens == "whole" and len(row_tokens) != size:
            problems.mark_row(row, f"column {named} does not hold {size} strings")
            continue
        if feature.unknown == "reject" and -1 in row_indices:
            problems.mark_row(row, f"column {named} holds a string that is not in the vocabulary")
            continue
        values = [first + len(known) if index < 0 else index for index in row_indices]
        indices[row, : len(values)] = values
    return indices


def _split_text(text: str, tokens: str) -> list[str]:
    return text.split() if tokens == "words" else list(text)


def _token_lists(
    column: Column, name: str, problems: Problems, fill: str | None
) -> list[list[str]]:
    rows: list[list[str]] = []
    for row, value in enumerate(columns.python_values(column)):
        items = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
        inner = Problems(len(items))
        rows.append(columns.to_strings(items, f"column {name}", inner, fill).to_pylist())
        for reason in list(inner.found().values())[:1]:
            problems.mark_row(row, reason)
    return rows


def _column(batch: RowBatch, name: str) -> Column:
    """A column of the batch; nothing but missing values if no row has it."""
    column = batch.columns.get(name)
    return pa.nulls(len(batch)) if column is None else column
