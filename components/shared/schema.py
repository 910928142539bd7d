"""What one example looks like: named features, a label and the client that owns it.

Ingestion checks every row against the schema and writes it beside the data (`schema.json`);
training, export and evaluation read it from there, so no step guesses a shape.
"""

import re
from collections.abc import Iterator
from typing import Literal

from privet.components.shared.configuration import Config, check

Task = Literal["multiclass", "binary", "regression"]

_RANGE = re.compile(r"^(?P<head>.*)\{(?P<first>\d+)\.\.(?P<last>\d+)\}(?P<tail>.*)$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class FeatureConfig(Config, frozen=True):
    """One model input, gathered from one or more columns of the source.

    Attributes:
      columns: a column name, a range such as `pixel_{0..63}`, or a list of either. One column
        gives shape [1]; n columns give shape [n], in this order.
      dtype: float32 or int64.
      minimum, maximum: the public range of valid values; a row outside it is rejected.
    """

    columns: str | tuple[str, ...]
    dtype: Literal["float32", "int64"] = "float32"
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        names = self.column_names
        check(len(names) > 0, "columns=[] must name at least one column")
        check(len(set(names)) == len(names), f"columns={self.columns!r} names a column twice")
        check(
            self.minimum is None or self.maximum is None or self.minimum <= self.maximum,
            f"minimum={self.minimum} must not exceed maximum={self.maximum}",
        )

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns with ranges expanded, in order."""
        patterns = (self.columns,) if isinstance(self.columns, str) else self.columns
        return tuple(name for pattern in patterns for name in _expand(pattern))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example's feature, without the batch axis."""
        return (len(self.column_names),)


class LabelConfig(Config, frozen=True):
    """What the model is to predict.

    Attributes:
      column: the column that holds it.
      classes: number of classes, labels being integers 0..classes-1; absent for regression.
      names: public display names of the classes, used by the classify signature.
    """

    column: str
    classes: int | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check(self.classes is None or self.classes >= 2, f"classes={self.classes} must be >= 2")
        if self.names is not None:
            check(
                len(self.names) == self.classes,
                f"names has {len(self.names)} entries for classes={self.classes}",
            )

    @property
    def dtype(self) -> Literal["int64", "float32"]:
        """int64 class indices, or float32 for regression."""
        return "float32" if self.classes is None else "int64"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Display names of the classes; the indices as text when none are given."""
        return self.names or tuple(str(index) for index in range(self.classes or 0))


class Schema(Config, frozen=True):
    """Features by name, the label, and the column with the client id."""

    client_id: str
    features: dict[str, FeatureConfig]
    label: LabelConfig

    def __post_init__(self) -> None:
        check(len(self.features) > 0, "features={} must name at least one feature")
        for name in self.features:
            check(bool(_NAME.match(name)), f"feature name {name!r} must be an identifier")
            check(name != LABEL, f"feature name {name!r} is taken by the label; rename it")
        used = [self.client_id, self.label.column]
        used += [column for feature in self.features.values() for column in feature.column_names]
        twice = sorted({column for column in used if used.count(column) > 1})
        check(not twice, f"columns {twice} are used more than once (client id, features, label)")

    @property
    def task(self) -> Task:
        """regression without classes, binary with two, multiclass with more."""
        if self.label.classes is None:
            return "regression"
        return "binary" if self.label.classes == 2 else "multiclass"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the source must have."""
        features = (c for feature in self.features.values() for c in feature.column_names)
        return (self.client_id, *features, self.label.column)

    @property
    def output_units(self) -> int:
        """Width of the model's output: classes, or one logit (binary) or value (regression)."""
        return (self.label.classes or 1) if self.task == "multiclass" else 1


LABEL = "label"
"""The name of the label among a client's columns."""


def _expand(pattern: str) -> Iterator[str]:
    """`pixel_{0..2}` -> pixel_0, pixel_1, pixel_2; any other text is one name."""
    match = _RANGE.match(pattern)
    if match is None:
        yield pattern
        return
    first, last = int(match["first"]), int(match["last"])
    for index in range(first, last + 1):
        yield f"{match['head']}{index}{match['tail']}"
