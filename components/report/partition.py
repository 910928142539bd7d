"""Simulated clients in the report: how they were made, and what examples each of them got."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from privet.components.report.canvas import SMALL_TEXT, add_axes, legend, new_figure, shorten
from privet.components.report.figures import MOST_LABELS, in_order
from privet.components.report.svg import ACCENT, MUTED, SOFT, inline_svg
from privet.components.report.wording import compact

MOST_CLIENTS = 60

_CELL_COLOURS = 5
_KINDS = {
    "iid": "shuffled and dealt out evenly",
    "dirichlet": "with skewed labels (Dirichlet)",
    "shards": "sorted by label and dealt out in runs",
    "by_feature": "by the values of a column",
    "quantity": "shuffled and dealt out unevenly",
}


@dataclass(frozen=True)
class ClientLabels:
    """How many examples of each label the clients of a partition have.

    Attributes:
        clients: names of those to draw, at most `MOST_CLIENTS`.
        counts: label -> examples of each of these clients, in the order of the rows.
        sizes: examples of each of these clients, those of labels not in `counts` included.
        population: how many clients there are in all.
        labels: how many labels there are in all.
    """

    clients: Sequence[str]
    counts: Mapping[str, Sequence[int]]
    sizes: Sequence[int]
    population: int
    labels: int

    @property
    def caption(self) -> str:
        """What the picture shows, what it leaves out, and that it is not private."""
        parts = [
            "Simulated clients. The stronger a cell, the more examples; the bars are all examples "
            "of a client."
        ]
        if self.population > len(self.clients):
            parts.append(f"Drawn are {len(self.clients):,} of {self.population:,} clients.")
        if self.labels > len(self.counts):
            parts.append(f"Drawn are the {len(self.counts)} most frequent of {self.labels} labels.")
        return " ".join((*parts, "Exact counts: not private."))


def how_divided(partition: Mapping[str, Any] | None) -> str | None:
    """In words, how Privet made the clients; None if it did not."""
    return _KINDS.get(str(partition.get("kind")), "by a partition") if partition else None


def client_labels(partition: Mapping[str, Any] | None) -> ClientLabels | None:
    """What to draw of a partition as statistics.json holds it; None if there is nothing.

    Of many clients the first are drawn, of many labels the most frequent among them.
    """
    partition = partition or {}
    clients = list(partition.get("shown") or ())[:MOST_CLIENTS]
    counted = {
        label: counts[: len(clients)] for label, counts in (partition.get("labels") or {}).items()
    }
    if not clients or not counted:
        return None
    frequent = sorted(counted, key=lambda label: -sum(counted[label]))[:MOST_LABELS]
    return ClientLabels(
        clients=clients,
        counts={label: counted[label] for label in in_order(set(frequent))},
        sizes=[sum(counts) for counts in zip(*counted.values(), strict=True)],
        population=int(partition.get("clients") or len(clients)),
        labels=len(counted),
    )


def clients_by_label(partition: ClientLabels) -> str:
    """Draws a cell for each label (row) and client (column), and each client's size above it.

    The opacity of a cell goes up in steps with the square root of its examples; none, no cell.
    """
    labels = [shorten(label, 16) for label in partition.counts]
    columns, rows = range(len(partition.clients)), range(len(labels))
    top, bars, gap, plot, bottom = 34, 44, 8, 19 * len(labels), 26
    figure = new_figure(top + bars + gap + plot + bottom)
    left = 12 + 7.5 * max(4, *map(len, labels))
    sizes = add_axes(figure, left=left, bottom=bottom + plot + gap, right=4, height=bars)
    sizes.bar(columns, partition.sizes, width=0.8, color=SOFT, linewidth=0)
    sizes.set_ylim(0, max(*partition.sizes, 1))
    sizes.yaxis.set_major_locator(MaxNLocator(2, integer=True, prune="lower"))
    cells = add_axes(figure, left=left, bottom=bottom, right=4, height=plot)
    cells.grid(visible=False)
    counts = np.array(list(partition.counts.values()))
    limits = _count_limits(int(counts.max()))
    opacities = np.linspace(1.0, 0.25, len(limits))[::-1].tolist()
    for low, high, opacity in zip(limits, [*limits[1:], math.inf], opacities, strict=True):
        _add_cells(cells, (counts >= low) & (counts < high), opacity)
    cells.set_yticks(rows, labels)
    cells.set_ylim(len(labels) - 0.5, -0.5)
    for axes in (sizes, cells):
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_xticks([])
    shown = f"{len(columns):,}"
    shown += f" of {partition.population:,}" if partition.population > len(columns) else ""
    cells.set_xlabel(f"{shown} clients →", loc="right", color=MUTED, fontsize=SMALL_TEXT)
    steps = zip(limits, opacities, strict=True)
    legend(figure, [("■", f"{compact(low)}+", (ACCENT, opacity)) for low, opacity in steps])
    description = (
        f"Examples of {len(labels)} labels (rows) at {shown} clients (columns), "
        f"at most {counts.max():,} in a cell. The bars above are the clients' examples, from "
        f"{min(partition.sizes):,} to {max(partition.sizes):,}."
    )
    omitted = partition.labels - len(labels)
    description += f" The {omitted} rarest labels have no row." if omitted > 0 else ""
    return inline_svg(figure, "partition", "Clients by label", description)


def _count_limits(largest: int) -> list[int]:
    """The least count of each colour of cells: the squares of equal steps, to two digits.

    >>> _count_limits(50), _count_limits(2), _count_limits(12345)
    ([1, 2, 8, 18, 32], [1, 2], [1, 490, 2000, 4400, 7900])
    """
    steps = [largest * (step / _CELL_COLOURS) ** 2 for step in range(1, _CELL_COLOURS)]
    return sorted({1, *(math.ceil(float(f"{step:.2g}")) for step in steps if step > 0)})


def _add_cells(axes: Axes, where: np.ndarray, opacity: float) -> None:
    """Draws cells of one colour, as one path: that takes a tenth of the bytes of one for each."""
    if not where.any():
        return
    corners = np.array([(0, 0), (0.8, 0), (0.8, 0.84), (0, 0.84), (0, 0)]) - (0.4, 0.42)
    places = np.argwhere(where)[:, ::-1]  # column, row
    cells = [Path(corners + place, closed=True) for place in places]
    together = Path.make_compound_path(*cells)
    axes.add_patch(PathPatch(together, color=ACCENT, alpha=opacity, linewidth=0))
