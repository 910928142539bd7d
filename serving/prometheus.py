"""Prometheus's text format, written as TF Serving's exporter writes it.

A family is a metric's name, its labels, and a cell for each combination of label values. Nothing
here locks: whoever updates families from several threads holds one lock for all of them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Values = tuple[str, ...]


@dataclass(frozen=True)
class Scalar:
    """A counter or a gauge.

    Attributes:
      name: of the metric.
      kind: a counter only grows.
      text: what it counts, for people.
      labels: names of the labels.
      cells: label values -> the number.
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: Values = ()
    cells: dict[Values, float] = field(default_factory=dict)

    def add(self, values: Values, amount: float = 1) -> None:
        """Adds to one cell."""
        try:
            self.cells[values] += amount
        except KeyError:
            self.cells[values] = amount

    def lines(self) -> Iterator[str]:
        """A line for each cell, in the order of the label values."""
        for values, number in sorted(self.cells.items()):
            yield f"{self.name}{{{_labels_text(self.labels, values)}}} {number}"


@dataclass(frozen=True)
class Histogram:
    """How often values fell below each of some limits.

    Attributes:
      name: of the metric.
      text: what it measures, for people.
      labels: names of the labels.
      limits: rising; one bucket ends below each, a last one has no end.
      cells: label values -> the values' sum, then the count of each bucket alone.
    """

    name: str
    text: str
    labels: Values
    limits: tuple[float, ...]
    cells: dict[Values, list[int]] = field(default_factory=dict)
    kind: Literal["histogram"] = "histogram"

    def observe(self, values: Values, number: int) -> None:
        """Counts a number in one cell.

        A number that equals a limit counts above it, as in TensorFlow's histograms (Prometheus's
        own clients count it below).
        """
        cell = self.cells.get(values)
        if cell is None:
            cell = self.cells[values] = [0] * (len(self.limits) + 2)
        cell[0] += number
        cell[1 + bisect_right(self.limits, number)] += 1

    def lines(self) -> Iterator[str]:
        """For each cell its buckets, each with all that is below, then their sum and count."""
        limits = [*(f"{limit:g}" for limit in self.limits), "+Inf"]
        for values, (total, *buckets) in sorted(self.cells.items()):
            labels = _labels_text(self.labels, values)
            prefix = f"{self.name}_bucket{{{labels}{',' if labels else ''}"
            count = 0
            for limit, bucket in zip(limits, buckets, strict=True):
                count += bucket
                yield f'{prefix}le="{limit}"}} {count}'
            yield f"{self.name}_sum{{{labels}}} {total}"
            yield f"{self.name}_count{{{labels}}} {count}"


Family = Scalar | Histogram


def exponential_limits(first: float, growth: float, count: int) -> tuple[float, ...]:
    """Limits of which each is `growth` times the one before: TensorFlow's Buckets::Exponential.

    >>> exponential_limits(1, 2, 4)
    (1, 2, 4, 8)
    """
    limits = [first]
    while len(limits) < count:
        limits.append(limits[-1] * growth)
    return tuple(limits)


def write_page(families: Iterable[Family]) -> bytes:
    """The text that Prometheus reads, in the order of the families' names.

    >>> requests = Scalar("requests", "counter", "Requests so far.", ("model",))
    >>> requests.add(("digits",))
    >>> print(write_page([requests]).decode(), end="")
    # HELP requests Requests so far.
    # TYPE requests counter
    requests{model="digits"} 1
    """
    lines = []
    for family in sorted(families, key=lambda family: family.name):
        lines.append(f"# HELP {family.name} {family.text}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.extend(family.lines())
    # Names come from clients too, and one that is not Unicode would make the whole page unreadable.
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _labels_text(names: Values, values: Values) -> str:
    """Labels inside their braces, with what would end a value early escaped."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
