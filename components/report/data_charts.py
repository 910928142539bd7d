"""Charts of the data: labels by split, and what examples simulated clients have."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from privet.components.report.chart_parts import quantity, tooltip, words
from privet.components.report.partition import MOST_LABELS, ClientLabels
from privet.components.report.vega import ACCENT, INK, SECOND, SOFT, SURFACE, chart
from privet.components.report.wording import compact, in_order, percent, shorten

_CELL_COLOURS = 5


def label_shares(labels_by_split: Mapping[str, Mapping[str, int]]) -> Markup:
    """Draws each label's share of the examples: bars for the first split, dots for the others.

    With more than `MOST_LABELS` labels only the most frequent of the first split are drawn. A
    noised count below 0 is drawn as 0.
    """
    drawn = {
        split: {label: max(0, count) for label, count in labels.items()}
        for split, labels in labels_by_split.items()
    }
    shares = {
        split: {label: count / (sum(labels.values()) or 1) for label, count in labels.items()}
        for split, labels in drawn.items()
    }
    first, *others = shares
    labels = in_order({label for split in shares.values() for label in split})
    omitted = len(labels) - MOST_LABELS
    if omitted > 0:
        labels = sorted(labels, key=lambda label: -shares[first].get(label, 0.0))[:MOST_LABELS]
    shown = [first, *others[:2]]
    rows = [
        {
            "at": index + 0.5,
            "top": index + 0.18,
            "bottom": index + 0.82,
            "label": label,
            "split": split,
            "share": shares[split].get(label, 0.0),
            "text": percent(shares[split].get(label, 0.0)),
        }
        for split in shown
        for index, label in enumerate(labels)
    ]
    names = [shorten(label, 16) for label in labels]
    x = quantity("share", title="share of examples", axis={"format": ".0%", "grid": True})
    y = quantity("top", title=None, axis=_named_rows(len(labels)))
    y["scale"] = {"domain": [0, len(labels)], "reverse": True, "nice": False}
    colours = {"domain": shown, "range": [SOFT, SECOND, INK][: len(shown)]}
    by_split = {"field": "split", "type": "nominal", "scale": colours}
    by_split["legend"] = {"symbolType": "square" if len(shown) == 1 else "circle"}
    said = tooltip(split="Split", label="Label", text="Share")
    spec = {
        "height": 60 + 19 * len(labels),
        "params": [{"name": "names", "value": names}],
        "layer": [
            {
                "data": {"values": [row for row in rows if row["split"] == first]},
                "mark": "rect",
                "encoding": {
                    "x": x,
                    "x2": {"datum": 0},
                    "y": y,
                    "y2": {"field": "bottom"},
                    "color": by_split,
                    "tooltip": said,
                },
            },
            {
                "data": {"values": [row for row in rows if row["split"] != first]},
                "mark": {"type": "point", "size": 55, "stroke": SURFACE, "strokeWidth": 1},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "at"},
                    "fill": by_split,
                    "tooltip": said,
                },
            },
        ],
    }
    rest = f" The {omitted} rarest are not drawn." if omitted > 0 else ""
    return chart(
        spec,
        "labels",
        "Examples by label",
        f"Each label's share of the examples of {', '.join(shown)}.{rest}",
    )


def clients_by_label(partition: ClientLabels) -> Markup:
    """Draws a cell for each label (row) and client (column), and each client's size above it.

    The opacity of a cell goes up in steps with the square root of its examples; none, no cell.
    """
    rows, columns = len(partition.counts), len(partition.clients)
    largest = max(max(counts) for counts in partition.counts.values())
    limits = _count_limits(largest)
    steps = [f"{compact(low)}+" for low in limits]
    shown_steps = sorted({steps[0], steps[len(steps) // 2], steps[-1]}, key=steps.index)
    cells = [
        {
            "client": client,
            "label": label,
            "column": column,
            "row": row,
            "step": steps[sum(count >= low for low in limits) - 1],
            "examples": f"{count:,}",
        }
        for row, (label, counts) in enumerate(partition.counts.items())
        for column, (client, count) in enumerate(zip(partition.clients, counts, strict=True))
        if count
    ]
    room = 3.0  # rows' height for the bars above the cells
    tallest = max(*partition.sizes, 1)
    bars = [
        {
            "client": client,
            "column": column,
            "top": -0.4 - (room - 0.4) * size / tallest,
            "examples": f"{size:,}",
        }
        for column, (client, size) in enumerate(
            zip(partition.clients, partition.sizes, strict=True)
        )
    ]
    shown = f"{columns:,}"
    shown += f" of {partition.population:,}" if partition.population > columns else ""
    x = quantity("left", title=f"{shown} clients", axis={"labels": False, "domain": False})
    x["scale"] = {"domain": [0, columns], "nice": False}
    y = quantity("up", title=None, axis=_named_rows(rows))
    y["scale"] = {"domain": [-room, rows], "reverse": True, "nice": False}
    across = [
        {"calculate": "datum.column + 0.1", "as": "left"},
        {"calculate": "datum.column + 0.9", "as": "right"},
    ]
    spec = {
        "height": 60 + 19 * (rows + int(room)),
        "params": [{"name": "names", "value": [shorten(one, 16) for one in partition.counts]}],
        "layer": [
            {
                "data": {"values": cells},
                "transform": [
                    *across,
                    {"calculate": "datum.row + 0.08", "as": "up"},
                    {"calculate": "datum.row + 0.92", "as": "down"},
                ],
                "mark": {"type": "rect", "color": ACCENT},
                "encoding": {
                    "x": x,
                    "x2": {"field": "right"},
                    "y": y,
                    "y2": {"field": "down"},
                    "opacity": {
                        "field": "step",
                        "type": "ordinal",
                        "scale": {"domain": steps, "range": [0.25 if steps[1:] else 1, 1]},
                        "legend": {
                            "symbolType": "square",
                            "symbolFillColor": ACCENT,
                            "values": shown_steps,
                        },
                    },
                    "tooltip": tooltip(client="Client", label="Label", examples="Examples"),
                },
            },
            {
                "data": {"values": bars},
                "transform": across,
                "mark": {"type": "rect", "color": SOFT},
                "encoding": {
                    "x": x,
                    "x2": {"field": "right"},
                    "y": {**y, "field": "top"},
                    "y2": {"datum": -0.4},
                    "tooltip": tooltip(client="Client", examples="Examples in all"),
                },
            },
            words(
                [{"text": f"{tallest:,}", "top": -room}],
                {"value": 0},
                {**y, "field": "top"},
                align="right",
                dx=-6,
                dy=5,
            ),
        ],
    }
    description = (
        f"Examples of {rows} labels (rows) at {shown} clients (columns), at most {largest:,} in a "
        f"cell. The bars above are the clients' examples, from {min(partition.sizes):,} to "
        f"{max(partition.sizes):,}."
    )
    omitted = partition.labels - rows
    description += f" The {omitted} rarest labels have no row." if omitted > 0 else ""
    return chart(spec, "partition", "Clients by label", description)


def _named_rows(count: int) -> dict[str, object]:
    """A vertical axis that writes `names` at the middle of each row."""
    return {
        "values": [row + 0.5 for row in range(count)],
        "labelExpr": "names[floor(datum.value)]",
        "tickCount": count,
        "labelOverlap": False,
        "grid": False,
    }


def _count_limits(largest: int) -> list[int]:
    """The least count of each colour of cells: the squares of equal steps, to two digits.

    >>> _count_limits(50), _count_limits(2), _count_limits(12345)
    ([1, 2, 8, 18, 32], [1, 2], [1, 490, 2000, 4400, 7900])
    """
    steps = [largest * (step / _CELL_COLOURS) ** 2 for step in range(1, _CELL_COLOURS)]
    return sorted({1, *(math.ceil(float(f"{step:.2g}")) for step in steps if step > 0)})
