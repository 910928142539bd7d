"""The run's nodes as rows of a drawing: each row takes from the rows above it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Node = Mapping[str, Any]

_BOX, _WIRE = 3, 1  # shares of a row's width


@dataclass
class Row:
    """One row of the drawing.

    Attributes:
        slots: a node, or None where a line passes through to a lower row.
        links: lines down to the next row, from where to where in hundredths of the width.
    """

    slots: list[Node | None] = field(default_factory=list)
    links: list[tuple[float, float]] = field(default_factory=list)

    @property
    def columns(self) -> str:
        """The shares of the row's width, as CSS writes grid columns."""
        return " ".join(f"minmax(0, {_share(slot)}fr)" for slot in self.slots)

    def centre(self, index: int) -> float:
        """The middle of a slot, in hundredths of the width."""
        shares = [_share(slot) for slot in self.slots]
        return round(100 * (sum(shares[:index]) + shares[index] / 2) / sum(shares), 2)


def rows_of(nodes: Sequence[Node]) -> list[Row]:
    """Puts every node below all that it takes from, and joins them by lines.

    A line is left out where a longer way leads to the same node; a line that crosses a row takes
    a slot there.

    Args:
        nodes: in an order in which they can run, each with its `name` and `inputs`, the names of
            the nodes it takes from. Inputs that are no earlier node are left out.
    """
    inputs = _shortened({str(one.get("name")): one.get("inputs") or () for one in nodes})
    depths = {name: _depth(name, inputs) for name in inputs}
    rows = [Row() for _ in range(max(depths.values(), default=-1) + 1)]
    named = {str(one.get("name")): one for one in nodes}
    # What stands in a row: node -> where its lines begin, in the row above.
    waiting: dict[tuple[str, str | None], list[float]] = {}
    for depth, row in enumerate(rows):
        here: dict[tuple[str, str | None], list[float]] = {
            (name, None): [] for name, at in depths.items() if at == depth
        }
        for (name, target), origins in waiting.items():
            key = (name, None) if target is None else (name, target)
            here.setdefault(key, []).extend(origins)
        order = sorted(here, key=lambda key: sum(here[key]) / len(here[key]) if here[key] else 50)
        row.slots = [named[name] if target is None else None for name, target in order]
        waiting = {}
        for index, (name, target) in enumerate(order):
            centre = row.centre(index)
            if depth:
                rows[depth - 1].links += [(origin, centre) for origin in here[name, target]]
            consumers = (
                [one for one, sources in inputs.items() if name in sources]
                if target is None
                else [target]
            )
            for consumer in consumers:
                arrives = depths[consumer] == depth + 1
                key = (consumer, None) if arrives else (name, consumer)
                waiting.setdefault(key, []).append(centre)
    return rows


def _share(slot: Node | None) -> int:
    return _WIRE if slot is None else _BOX


def _shortened(inputs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The same order of nodes with as few edges as say it (the transitive reduction)."""
    names = list(inputs)
    known = {
        name: [one for one in inputs[name] if one in names[:position]]
        for position, name in enumerate(names)
    }
    above = {name: _above(name, known) for name in known}
    return {
        name: [one for one in sources if not any(one in above[other] for other in sources)]
        for name, sources in known.items()
    }


def _above(name: str, inputs: Mapping[str, Sequence[str]]) -> set[str]:
    """All that a node takes from, directly or not."""
    found: set[str] = set()
    for one in inputs[name]:
        found |= {one} | _above(one, inputs)
    return found


def _depth(name: str, inputs: Mapping[str, Sequence[str]]) -> int:
    """How many nodes stand above a node on the longest way to it."""
    return max((_depth(one, inputs) + 1 for one in inputs[name]), default=0)
