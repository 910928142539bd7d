"""The page of a sweep: what its configurations cost and what they give, in pictures and a table."""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from privet.components.report.shell import environment
from privet.components.report.vega import ACCENT, MUTED, SECOND, SOFT, THIRD, chart
from privet.components.report.wording import byte_size
from privet.pipeline.frontier import CONFIDENCE, Row, shown
from privet.pipeline.summary import privacy_text

_HEIGHT = 280
_COLOURS = (ACCENT, SECOND, SOFT, THIRD)
_SPREAD = 0.025  # of the width, between configurations of one epsilon


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A cost along the horizontal axis."""

    title: str
    value: Callable[[Row], float | None]


_COSTS = {
    "bytes": _Axis("bytes down and up, in all", lambda row: row.bytes_total),
    "size": _Axis("bytes of the served model, gzipped", lambda row: row.model_bytes),
    "compute": _Axis("examples processed in training", lambda row: row.examples),
}


def render(sweep: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The page, one file that needs no network.

    Args:
      sweep: the content of sweep.json.
      rows: of its frontier.
    """
    points, privacy = sweep["points"], sweep["privacy"]
    together, private = privacy["together"], privacy["together_private"]
    sections = [("spent", "Spent"), ("frontier", "Frontier"), ("levers", "Levers")]
    sections += [("table", "Configurations"), ("failures", "Failures")]
    failures = [point for point in points if point["status"] == "failed"]
    template = environment("privet.pipeline").get_template("frontier.html.jinja")
    return template.render(
        name=sweep["name"],
        sections=[one for one in sections if one[0] != "failures" or failures],
        rows=sorted(rows, key=_table_order),
        levers=list(sweep["grid"]),
        metric=rows[0].metric if rows else None,
        points=points,
        finished=sum(row.repeats for row in rows),
        counts={kind: sum(row.frontier is kind for row in rows) for kind in (True, False, None)},
        privacy=privacy,
        label_of={row.configuration: label(row) for row in rows},
        total=together and _guarantee(together),
        private_total=private and _guarantee(private),
        rule=sweep["frontier"]["rule"],
        confidence=f"{CONFIDENCE:.0%}",
        main_chart=_quality_by_epsilon(rows) if rows else None,
        cost_charts={name: _quality_by(rows, name, axis) for name, axis in _COSTS.items() if rows},
        lever_charts=[
            _quality_by_lever(rows, lever, number)
            for number, lever in enumerate(sweep["grid"])
            if len({shown(row.levers.get(lever)) for row in rows}) > 1
        ],
        failures=failures,
        shown=shown,
        epsilon=lambda row: "none" if row.epsilon is None else f"{row.epsilon:.3g}",
    )


def label(row: Row) -> str:
    """A configuration in words."""
    values = [f"{lever.rpartition('.')[2]} {shown(value)}" for lever, value in row.levers.items()]
    return " · ".join([*(["small dense"] if row.dense_small else []), *values]) or row.configuration


def _guarantee(spent: Mapping[str, Any]) -> str:
    return privacy_text(spent["epsilon"], spent["delta"], spent["neighbouring_relation"])


def _table_order(row: Row) -> tuple[Any, ...]:
    """The frontier first, by epsilon, the best first."""
    quality = -row.quality if row.higher_is_better else row.quality
    return row.frontier is False, math.inf if row.epsilon is None else row.epsilon, quality


def _quality_by_epsilon(rows: Sequence[Row]) -> Markup:
    """The picture of the page: what privacy costs."""
    places, ticks, most = _epsilon_places(rows)
    bands = _size_bands(rows)
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 14},
        "axis": {
            "title": "epsilon",
            "values": ticks,
            "labelExpr": f"datum.value > {most} ? 'none' : format(datum.value, '~g')",
            "labelOverlap": False,
        },
    }
    values = [
        {**_datum(row), "x": places[row.configuration], "band": bands[row.configuration]}
        for row in rows
    ]
    names = list(dict.fromkeys(bands[row.configuration] for row in sorted(rows, key=_by_size)))
    colour = {
        "field": "band",
        "type": "nominal",
        "scale": {"domain": names, "range": list(_COLOURS[: len(names)])},
        "legend": {"offset": 34},  # above the axis's name
    }
    spec = _scatter(rows, values, x, colour)
    return chart(
        spec,
        "epsilon",
        f"{rows[0].metric} against epsilon",
        f"{_counted(rows)} Filled marks are on the frontier, hollow ones are dominated. Colours "
        f"are sizes of the served model. Bars are {CONFIDENCE:.0%} intervals. Marks of one epsilon "
        "are spread sideways to be told apart.",
    )


def _quality_by(rows: Sequence[Row], name: str, axis: _Axis) -> Markup:
    """Quality against another cost."""
    values = [{**_datum(row), "x": axis.value(row)} for row in rows]
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 14},
        "axis": {"title": axis.title, "format": "~s", "tickCount": 4},
    }
    spec = _scatter(rows, values, x, {"value": ACCENT})
    return chart(
        spec,
        name,
        f"{rows[0].metric} against {axis.title}",
        f"{_counted(rows)} Filled marks are on the frontier, hollow ones are dominated.",
    )


def _quality_by_lever(rows: Sequence[Row], lever: str, number: int) -> Markup:
    """What a lever does: every configuration, and the mean at each of its values."""
    with_it = [row for row in rows if lever in row.levers]
    order = list(dict.fromkeys(shown(row.levers[lever]) for row in with_it))
    values = [{**_datum(row), "x": shown(row.levers[lever])} for row in with_it]
    found = {one: [each["quality"] for each in values if each["x"] == one] for one in order}
    means = [{"x": one, "mean": statistics.fmean(qualities)} for one, qualities in found.items()]
    x = {
        "field": "x",
        "type": "ordinal",
        "sort": order,
        "axis": {"title": lever, "labelAngle": 0, "labelLimit": 90},
    }
    spec = _scatter(rows, values, x, {"value": SOFT})
    spec["layer"] = spec["layer"][1:]  # bars of so many would hide each other
    spec["layer"].append(
        {
            "data": {"values": means},
            "mark": {"type": "line", "color": ACCENT, "point": {"color": ACCENT, "size": 40}},
            "encoding": {
                "x": x,
                "y": {"field": "mean", "type": "quantitative"},
                "tooltip": [
                    {"field": "x", "title": lever},
                    {"field": "mean", "title": "mean", "format": ".4f"},
                ],
            },
        }
    )
    told = ", ".join(f"{one['x']}: {one['mean']:.3f}" for one in means)
    return chart(
        spec,
        f"lever-{number}",
        f"{rows[0].metric} by {lever}",
        f"Means over all other levers, by {lever}: {told}.",
    )


def _scatter(
    rows: Sequence[Row],
    values: Sequence[Mapping[str, Any]],
    x: Mapping[str, Any],
    colour: Mapping[str, Any],
) -> dict[str, Any]:
    """Marks with the bars of their intervals: filled, but hollow where another one dominates."""
    y = {
        "field": "quality",
        "type": "quantitative",
        "scale": {"domain": _quality_range(rows), "nice": False},
        "title": rows[0].metric,
    }
    tooltip = [
        {"field": "label", "title": "configuration"},
        {"field": "quality", "title": rows[0].metric, "format": ".4f"},
        {"field": "interval", "title": f"{CONFIDENCE:.0%} interval"},
        {"field": "epsilon", "title": "epsilon"},
        {"field": "model", "title": "model"},
        {"field": "traffic", "title": "traffic"},
    ]
    bars = {
        "mark": {"type": "rule", "color": MUTED, "opacity": 0.5, "clip": True},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
    }
    marks = [
        {
            "transform": [{"filter": f"datum.dominated == {json.dumps(dominated)}"}],
            "mark": {"type": "point", "filled": not dominated, "size": 60, "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
        }
        for dominated in (True, False)
    ]
    return {"height": _HEIGHT, "data": {"values": list(values)}, "layer": [bars, *marks]}


def _quality_range(rows: Sequence[Row]) -> list[float]:
    """Of the axis: all qualities, and intervals as far as they leave these apart."""
    least, most = min(row.quality for row in rows), max(row.quality for row in rows)
    room = 0.4 * (most - least) or 0.05 * abs(most) or 1.0
    lows = [row.quality if row.quality_low is None else row.quality_low for row in rows]
    highs = [row.quality if row.quality_high is None else row.quality_high for row in rows]
    edge = 0.04 * (most - least)
    top = min(max(highs), most + room) + edge
    is_share = rows[0].higher_is_better and least >= 0 and most <= 1
    return [max(min(lows), least - room) - edge, min(top, 1 + edge) if is_share else top]


def _datum(row: Row) -> dict[str, Any]:
    """A configuration as the pictures show it."""
    return {
        "label": label(row),
        "quality": row.quality,
        "low": row.quality_low,
        "high": row.quality_high,
        "interval": (
            "none"
            if row.quality_low is None or row.quality_high is None
            else f"{row.quality_low:.4f} to {row.quality_high:.4f}"
        ),
        "epsilon": "none" if row.epsilon is None else f"{row.epsilon:.3g}",
        "model": byte_size(row.model_bytes),
        "traffic": byte_size(row.bytes_total),
        "dominated": row.frontier is False,
    }


def _epsilon_places(rows: Sequence[Row]) -> tuple[dict[str, float], list[float], float]:
    """Where configurations stand, where the axis is marked, and the end of what is an epsilon.

    Those without privacy stand beyond all others. Marks of one epsilon are spread.
    """
    known = [row.epsilon for row in rows if row.epsilon is not None]
    least, most = (min(known), max(known)) if known else (1.0, 1.0)
    without = most * max(2.0, (most / least) ** 0.25)
    at = {row.configuration: without if row.epsilon is None else row.epsilon for row in rows}
    width = math.log(max(at.values()) / least) or 1.0
    places = {}
    for value in {float(f"{one:.1e}") for one in at.values()}:
        same = [row for row in sorted(rows, key=_by_size) if _close(at[row.configuration], value)]
        step = min(_SPREAD, _SPREAD * 6 / len(same)) * width
        for number, row in enumerate(same):
            shift = (number - (len(same) - 1) / 2) * step
            places[row.configuration] = at[row.configuration] * math.exp(shift)
    end = math.sqrt(most * without)
    doubles = [2.0**power for power in range(-10, 14)]
    # Epsilon is calibrated to just below a round number.
    ticks = [one for one in doubles if least * 0.99 <= one <= most * 1.01] or [most]
    return places, [*ticks, *([without] if len(known) < len(rows) else [])], end


def _close(value: float, two_digits: float) -> bool:
    return float(f"{value:.1e}") == two_digits


def _by_size(row: Row) -> tuple[float, str]:
    return row.model_bytes, row.configuration


def _size_bands(rows: Sequence[Row]) -> dict[str, str]:
    """Up to four bands of model sizes, cut where neighbouring sizes differ most."""
    sizes = sorted({row.model_bytes for row in rows})
    gaps = sorted(
        range(1, len(sizes)), key=lambda place: sizes[place] / sizes[place - 1], reverse=True
    )
    cuts = sorted(place for place in gaps[:3] if sizes[place] > 1.1 * sizes[place - 1])
    bounds = list(zip([0, *cuts], [*cuts, len(sizes)], strict=True))
    bands: dict[float, str] = {}
    for start, end in bounds:
        least, most = byte_size(sizes[start]), byte_size(sizes[end - 1])
        name = least if least == most else f"{least} to {most}"
        bands |= dict.fromkeys(sizes[start:end], name)
    return {row.configuration: bands[row.model_bytes] for row in rows}


def _counted(rows: Sequence[Row]) -> str:
    marked = sum(row.frontier is not False for row in rows)
    return f"{len(rows)} configurations, {marked} of them not dominated."
