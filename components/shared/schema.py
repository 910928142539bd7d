"""What one example looks like: named features, a label and the client that owns it.

Ingestion checks every row against the schema and writes it beside the data (`schema.json`);
training, export and evaluation read it from there, so no step guesses a shape.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal, Self

import msgspec

from privet.components.shared.configuration import Config, check

Task = Literal["multiclass", "binary", "regression"]

_RANGE = re.compile(r"^(?P<head>.*)\{(?P<first>\d+)\.\.(?P<last>\d+)\}(?P<tail>.*)$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class FeatureConfig(Config, frozen=True):
    """One model input, gathered from one or more columns of the source.

    Attributes:
      columns: a column name, a range such as `pixel_{0..63}`, or a list of either. n columns
        hold one value each; a single column may hold a list, a tensor, an image or a text.
      dtype: float32, int64 or uint8: of the stored values and of the model's input.
      shape: of one example; [n] for n columns by default. Values fill it in C order.
      minimum, maximum: the public range of valid values; a row outside it is rejected.
      fill_missing: the value that stands for a missing one; a row without it is rejected.
      encoding: `values`, or `image`: PNG or JPEG bytes, decoded to uint8 [height, width] or
        [height, width, channels] as `shape` says.
      vocabulary: the public list of known strings: a string becomes its index.
      learn_vocabulary: learn a vocabulary of at most this many strings from the data, the most
        frequent first. It is NOT private, so training with privacy refuses it.
      tokens: `whole` takes a value as one string; `words` and `characters` split it into a
        sequence that is cut or padded to the shape. Then 0 is padding, and known tokens count
        from 1.
      unknown: `reject` a row with an unknown string, or `index`: give it the index after the
        last known one.
    """

    columns: str | tuple[str, ...]
    dtype: Literal["float32", "int64", "uint8"] = "float32"
    shape: tuple[int, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    fill_missing: float | str | None = None
    encoding: Literal["values", "image"] = "values"
    vocabulary: tuple[str, ...] | None = None
    learn_vocabulary: int | None = None
    tokens: Literal["whole", "words", "characters"] = "whole"
    unknown: Literal["reject", "index"] = "reject"

    def __post_init__(self) -> None:
        names = self.column_names
        check(len(names) > 0, "columns=[] must name at least one column")
        check(len(set(names)) == len(names), f"columns={self.columns!r} names a column twice")
        check(
            self.minimum is None or self.maximum is None or self.minimum <= self.maximum,
            f"minimum={self.minimum} must not exceed maximum={self.maximum}",
        )
        check(
            self.shape is None or all(axis >= 1 for axis in self.shape),
            f"shape={self.shape} must hold positive numbers",
        )
        self._check_encoding()
        self._check_text()

    def _check_encoding(self) -> None:
        one_column = len(self.column_names) == 1
        values = math.prod(self.shape or ())
        check(
            one_column or self.shape is None or values == len(self.column_names),
            f"shape={self.shape} holds {values} values, but there are {len(self.column_names)} "
            "columns",
        )
        if self.encoding == "image":
            check(one_column, "encoding=image takes one column, which holds the image's bytes")
            check(self.dtype == "uint8", f"encoding=image needs dtype=uint8, not {self.dtype}")
            check(
                len(self.shape or ()) in (2, 3) and (self.shape or (0,))[2:] in ((), (1,), (3,)),
                f"encoding=image needs shape=[height, width] or [height, width, 1 or 3], not "
                f"{self.shape}",
            )
            check(self.fill_missing is None, "fill_missing does not apply to encoding=image")

    def _check_text(self) -> None:
        check(
            self.vocabulary is None or self.learn_vocabulary is None,
            "vocabulary and learn_vocabulary exclude each other",
        )
        if not self.is_text:
            check(self.tokens == "whole", f"tokens={self.tokens} needs a vocabulary")
            check(self.unknown == "reject", f"unknown={self.unknown} needs a vocabulary")
            check(
                not isinstance(self.fill_missing, str),
                f"fill_missing={self.fill_missing!r} must be a number where there is no vocabulary",
            )
            return
        check(self.dtype == "int64", f"a vocabulary needs dtype=int64, not {self.dtype}")
        check(self.encoding == "values", "a vocabulary does not go with encoding=image")
        check(
            self.minimum is None and self.maximum is None,
            "minimum and maximum do not apply to a feature with a vocabulary",
        )
        words = self.vocabulary or ()
        check(self.vocabulary is None or len(words) > 0, "vocabulary=[] must hold a string")
        check(len(set(words)) == len(words), "vocabulary holds a string twice")
        check(
            self.learn_vocabulary is None or self.learn_vocabulary >= 1,
            f"learn_vocabulary={self.learn_vocabulary} must be >= 1",
        )
        check(
            self.tokens == "whole" or len(self.column_names) == 1,
            f"tokens={self.tokens} takes one column",
        )
        check(
            self.fill_missing is None or isinstance(self.fill_missing, str),
            f"fill_missing={self.fill_missing!r} must be a string where there is a vocabulary",
        )

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns with ranges expanded, in order."""
        patterns = (self.columns,) if isinstance(self.columns, str) else self.columns
        return tuple(name for pattern in patterns for name in _expand(pattern))

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of one example's feature, without the batch axis."""
        return (len(self.column_names),) if self.shape is None else self.shape

    @property
    def is_text(self) -> bool:
        """Whether the source holds strings, which a vocabulary turns into indices."""
        return self.vocabulary is not None or self.learn_vocabulary is not None

    @property
    def index_range(self) -> tuple[int, int]:
        """The lowest and highest index of a feature with a vocabulary."""
        first = 0 if self.tokens == "whole" else 1
        last = first + len(self.vocabulary or ()) - (self.unknown == "reject")
        return 0, last


class LabelConfig(Config, frozen=True):
    """What the model is to predict.

    Attributes:
      column: the column that holds it.
      classes: number of classes, labels being integers 0..classes-1; absent for regression.
      names: public display names of the classes, used by the classify signature.
      by_name: the column holds the names, not the numbers, of the classes.
    """

    column: str
    classes: int | None = None
    names: tuple[str, ...] | None = None
    by_name: bool = False

    def __post_init__(self) -> None:
        check(self.classes is None or self.classes >= 2, f"classes={self.classes} must be >= 2")
        if self.names is not None:
            check(
                len(self.names) == self.classes,
                f"names has {len(self.names)} entries for classes={self.classes}",
            )
        check(
            not self.by_name or len(set(self.names or ())) == (self.classes or -1),
            "by_name needs names, each different",
        )

    @property
    def dtype(self) -> Literal["int64", "float32"]:
        """int64 class indices, or float32 for regression."""
        return "float32" if self.classes is None else "int64"

    @property
    def task(self) -> Task:
        """regression without classes, binary with two, multiclass with more."""
        if self.classes is None:
            return "regression"
        return "binary" if self.classes == 2 else "multiclass"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Display names of the classes; the indices as text when none are given."""
        return self.names or tuple(str(index) for index in range(self.classes or 0))


class Schema(Config, frozen=True):
    """Features by name, the label, and the column with the client id.

    Attributes:
      learned_features: names of the features whose vocabulary or type was learned from the clients'
        data (also where only its indices were imported). No epsilon covers such a vocabulary.
        Ingestion sets it (see with_learned).
    """

    client_id: str
    features: dict[str, FeatureConfig]
    label: LabelConfig
    learned_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(len(self.features) > 0, "features={} must name at least one feature")
        for name in self.features:
            check(bool(_NAME.match(name)), f"feature name {name!r} must be an identifier")
            check(name != LABEL, f"feature name {name!r} is taken by the label; rename it")
        used = [self.client_id, self.label.column]
        used += [column for feature in self.features.values() for column in feature.column_names]
        twice = sorted({column for column in used if used.count(column) > 1})
        check(not twice, f"columns {twice} are used more than once (client id, features, label)")
        check(
            set(self.learned_features) <= self.features.keys(),
            f"learned_features={self.learned_features} must name features",
        )

    @property
    def task(self) -> Task:
        """What the label asks for."""
        return self.label.task

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the source must have."""
        features = (c for feature in self.features.values() for c in feature.column_names)
        return (self.client_id, *features, self.label.column)

    def with_learned(self, vocabularies: Mapping[str, tuple[str, ...]]) -> Self:
        """The schema with the vocabularies that learn_vocabulary found, marked as private.

        Args:
          vocabularies: feature name -> its known strings, in the order of their indices.
        """
        features = {
            name: msgspec.structs.replace(
                feature, vocabulary=vocabularies[name], learn_vocabulary=None
            )
            if name in vocabularies
            else feature
            for name, feature in self.features.items()
        }
        private = tuple(sorted({*self.learned_features, *vocabularies}))
        return msgspec.structs.replace(self, features=features, learned_features=private)

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
