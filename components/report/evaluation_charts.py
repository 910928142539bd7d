"""Charts of an evaluation: clients by metric, slices, calibration and confusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from privet.components.report.chart_parts import diagonal, quantity, tooltip, words
from privet.components.report.vega import ACCENT, INK, LINE, SECOND, SOFT, SURFACE, THIRD, chart
from privet.components.report.wording import compact, number, percent, shorten

MOST_CLASSES = 30

_MODEL_COLOURS = (SOFT, ACCENT, THIRD, SECOND, INK)


@dataclass(frozen=True)
class ClientHistogram:
    """How one model's metric spreads over clients.

    Attributes:
        model: the name shown for the model.
        edges: bins + 1 rising numbers.
        counts: clients per bin.
        median: the median client's metric, or None if it is not known.
        note: a few words at the row's right, for example the worst client.
    """

    model: str
    edges: Sequence[float]
    counts: Sequence[int]
    median: float | None = None
    note: str = ""


def client_distribution(models: Sequence[ClientHistogram], metric: str) -> Markup:
    """Draws one histogram of clients per model, one above the other on the same axis.

    The second, by custom the compressed model that is served, has the strongest colour.
    """
    tallest = max(1, *(max(model.counts) for model in models))
    rows = len(models)
    x = quantity("from", title=shorten(metric, 40), axis={"format": "~s", "domain": False})
    x["scale"] = {"domain": list(_filled_range(models)), "nice": False}
    y = quantity("bottom", axis=None, scale={"domain": [0, rows], "nice": False})
    bars: list[dict[str, Any]] = []
    medians, names, floors = list(bars), list(bars), list(bars)
    for index, model in enumerate(models):
        floor = rows - 1 - index
        floors.append({"bottom": floor})
        names.append({"at": floor + 0.86, "text": shorten(model.model, 14), "note": model.note})
        if model.median is not None:
            medians.append({"from": model.median, "bottom": floor, "top": floor + 0.7})
        bars += [
            {
                "model": model.model,
                "from": left,
                "to": right,
                "bottom": floor,
                "top": floor + 0.7 * count / tallest,
                "colour": index,
                "clients": f"{count:,}",
                "range": f"{compact(left)} to {compact(right)}",
            }
            for left, right, count in zip(model.edges, model.edges[1:], model.counts, strict=False)
            if count
        ]
    indices = list(range(rows))
    colours = [_MODEL_COLOURS[index % len(_MODEL_COLOURS)] for index in indices]
    upright = {"x": x, "y": y, "y2": {"field": "top"}}
    at = {**y, "field": "at"}
    spec = {
        "height": 34 + 92 * rows,
        "data": {"values": bars},
        "layer": [
            {
                "data": {"values": floors},
                "mark": {"type": "rule", "color": LINE},
                "encoding": {"x": {"value": 0}, "x2": {"value": "width"}, "y": y},
            },
            {
                "mark": {"type": "rect", "stroke": SURFACE, "strokeWidth": 1, "clip": True},
                "encoding": {
                    **upright,
                    "x2": {"field": "to"},
                    "color": {
                        "field": "colour",
                        "type": "nominal",
                        "legend": None,
                        "scale": {"domain": indices, "range": colours},
                    },
                    "tooltip": tooltip(model="Model", range=metric, clients="Clients"),
                },
            },
            {
                "data": {"values": medians},
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
                "encoding": upright,
            },
            words(names, {"value": 0}, at, align="left", color=INK, fontSize=13, fontWeight="bold"),
            words(
                [{"at": one["at"], "text": shorten(one["note"], 42)} for one in names],
                {"value": "width"},
                at,
                align="right",
            ),
        ],
    }
    middles = (f"{one.model}: median {one.median:.6g}" for one in models if one.median is not None)
    return chart(
        spec,
        "clients",
        f"{metric} per client",
        f"One histogram of clients per model; a line is the median. {'; '.join(middles)}.",
    )


def calibration(curves: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Draws how often predictions come true, by the model's confidence.

    Args:
        curves: model's name -> `confidence`, `accuracy` and `counts` of its bins; an empty bin
            holds None, or a count of 0.
    """
    rows = [
        {
            "a": confidence,
            "b": accuracy,
            "model": model,
            "said": percent(confidence),
            "came": percent(accuracy),
            "examples": f"{count:,}",
        }
        for model, curve in curves.items()
        for confidence, accuracy, count in zip(
            curve["confidence"], curve["accuracy"], curve["counts"], strict=True
        )
        if count and confidence is not None and accuracy is not None
    ]
    shares = {"axis": {"format": ".0%"}, "scale": {"domain": [0, 1]}}
    names = list(curves)
    colours = [_MODEL_COLOURS[index % len(_MODEL_COLOURS)] for index in range(len(names))]
    by_model = {"field": "model", "type": "nominal", "sort": None, "legend": {"offset": 28}}
    by_colour = {**by_model, "scale": {"domain": names, "range": colours}}
    spec = {
        "height": 320,
        "data": {"values": rows},
        "encoding": {
            "x": quantity("a", title="confidence", **shares),
            "y": quantity("b", title="came true", **shares),
        },
        "layer": [
            diagonal(),
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {
                    "color": by_colour,
                },
            },
            {
                "mark": {"type": "point", "size": 45},
                "encoding": {
                    "color": by_colour,
                    "shape": {**by_model, "scale": {"domain": names}},
                    "tooltip": tooltip(
                        model="Model", said="Confidence", came="Came true", examples="Examples"
                    ),
                },
            },
        ],
    }
    return chart(
        spec,
        "calibration",
        "Calibration",
        "How often a prediction is right, by the confidence it was made with. On the dashed line "
        "the two agree; below it the model is too sure of itself.",
    )


def confusion(labels: Sequence[Any], counts: Sequence[Sequence[int]]) -> Markup:
    """Draws what examples of each label (rows) were taken for (columns), as shares of the row."""
    names = [shorten(str(label), 16) for label in labels]
    cells = [
        {
            "row": row,
            "column": column,
            "share": count / (sum(line) or 1),
            "true": str(labels[row]),
            "predicted": str(labels[column]),
            "examples": f"{count:,} of {sum(line):,}",
            "text": f"{count:,}",
        }
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if count
    ]
    centres = [index + 0.5 for index in range(len(labels))]
    scale = {"domain": [0, len(labels)], "nice": False}
    axis: dict[str, Any] = {"values": centres, "labelExpr": "names[floor(datum.value)]"}
    axis |= {"tickCount": len(labels), "domain": False}
    x = quantity("left", title="predicted", scale=scale, axis={**axis, "labelAngle": 0})
    y = quantity(
        "top", title="true", scale={**scale, "reverse": True}, axis={**axis, "grid": False}
    )
    if max(map(len, names)) > 3:
        x["axis"] = {**axis, "labelAngle": -45, "labelLimit": 70}
    place = [
        {"calculate": f"datum.{field} + {shift}", "as": name}
        for field, shift, name in (
            ("column", 0.03, "left"),
            ("column", 0.97, "right"),
            ("row", 0.03, "top"),
            ("row", 0.97, "bottom"),
            ("column", 0.5, "across"),
            ("row", 0.5, "down"),
        )
    ]
    strength = {"domain": [0, 1], "range": [0.08, 1], "type": "sqrt"}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "color": ACCENT},
            "encoding": {
                "x": x,
                "x2": {"field": "right"},
                "y": y,
                "y2": {"field": "bottom"},
                "opacity": quantity("share", legend=None, scale=strength),
                "tooltip": tooltip(true="True", predicted="Predicted", examples="Examples"),
            },
        }
    ]
    if len(labels) <= 12:
        for dark, colour in ((False, INK), (True, SURFACE)):
            layers.append(
                {
                    "transform": [{"filter": f"(datum.share >= 0.3) === {str(dark).lower()}"}],
                    "mark": {"type": "text", "color": colour, "fontSize": 10},
                    "encoding": {
                        "x": quantity("across"),
                        "y": quantity("down"),
                        "text": {"field": "text"},
                    },
                }
            )
    right = sum(counts[index][index] for index in range(len(labels)))
    return chart(
        {
            "height": max(220, 60 + 24 * len(labels)),
            "params": [{"name": "names", "value": names}],
            "data": {"values": cells},
            "transform": place,
            "layer": layers,
        },
        "confusion",
        "Confusion",
        f"Rows are the true labels, columns the predicted ones. {right:,} of "
        f"{sum(map(sum, counts)):,} examples lie on the diagonal: they are predicted right.",
    )


def slices(rows: Sequence[Mapping[str, Any]], metric: str, overall: float | None) -> Markup:
    """Draws the metric of each slice with its interval.

    Args:
        rows: `name`, `value`, and `interval` of two limits or None.
        metric: its name.
        overall: the metric of all examples, drawn as a line; None if it is not known.
    """
    drawn = [
        {
            "at": index + 0.5,
            "value": row["value"],
            "low": (row["interval"] or [None])[0],
            "high": (row["interval"] or [None])[-1],
            "name": row["name"],
            "text": number(row["value"]),
        }
        for index, row in enumerate(rows)
    ]
    names = [shorten(row["name"], 22) for row in rows]
    axis = {
        "values": [row["at"] for row in drawn],
        "labelExpr": "names[floor(datum.value)]",
        "tickCount": len(rows),
        "grid": False,
        "labelLimit": 150,
        "labelOverlap": False,
    }
    x = quantity("value", title=shorten(metric, 40), scale={"zero": False})
    y = quantity("at", title=None, axis=axis)
    y["scale"] = {"domain": [0, len(rows)], "reverse": True, "nice": False}
    layers: list[dict[str, Any]] = []
    if overall is not None:
        rule = {"type": "rule", "strokeDash": [4, 3]}
        values = [{"value": overall}]
        layers.append({"data": {"values": values}, "mark": rule, "encoding": {"x": x}})
    spec = {
        "height": 44 + 22 * len(rows),
        "params": [{"name": "names", "value": names}],
        "data": {"values": drawn},
        "layer": [
            *layers,
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "color": SOFT, "strokeWidth": 3},
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
            },
            {
                "mark": {"type": "point", "size": 50},
                "encoding": {"x": x, "y": y, "tooltip": tooltip(name="Slice", text=metric)},
            },
        ],
    }
    lowest, highest = (pick(row["value"] for row in rows) for pick in (min, max))
    return chart(
        spec,
        "slices",
        f"{metric} by slice",
        f"{len(rows)} slices, from {lowest:.6g} to {highest:.6g}; a bar is the interval, the "
        "dashed line all examples.",
    )


def _filled_range(models: Sequence[ClientHistogram]) -> tuple[float, float]:
    """The range of all bins that hold a client, or of all bins if none does."""
    bins = [
        (left, right, count)
        for model in models
        for left, right, count in zip(model.edges, model.edges[1:], model.counts, strict=False)
    ]
    filled = [item for item in bins if item[2]] or bins
    return min(item[0] for item in filled), max(item[1] for item in filled)
