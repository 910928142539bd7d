"""The comparison of two runs as one self-contained HTML page."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from privet.components.report import vega, wording
from privet.components.report.shell import environment

Facts = Mapping[str, Any]

SECTIONS = (
    ("privacy", "Privacy"),
    ("quality", "Quality"),
    ("clients", "Clients"),
    ("numbers", "Size and cost"),
    ("gate", "Gate"),
    ("audit", "Audit"),
    ("settings", "Settings"),
)

_NAMES = ("A", "B")
_COLOURS = {"domain": list(_NAMES), "range": [vega.SECOND, vega.ACCENT]}
_MODELS = {"float": "Float", "compressed": "Compressed"}


def render(comparison: Facts) -> str:
    """Builds the page of a comparison, as `compare` gives it."""
    return (
        environment()
        .get_template("compare.html.jinja")
        .render(
            sections=SECTIONS,
            names=_NAMES,
            titles=_MODELS,
            figures=draw_figures(comparison),
            **comparison,
        )
    )


def draw_figures(comparison: Facts) -> dict[str, Markup]:
    """The charts whose numbers are there, by name."""
    drawn = {}
    quality = comparison["quality"]
    rows = [row for row in quality["models"] if row["metric"] == quality["metric"]]
    if rows:
        drawn["quality"] = quality_chart(rows, quality["metric"])
    if comparison["clients"]:
        drawn["clients"] = difference_chart(comparison["clients"])
    return drawn


def quality_chart(rows: list[dict[str, Any]], metric: str) -> Markup:
    """Draws a metric of every model in both runs, with its intervals where they are known."""
    points = [
        {
            "model": _MODELS.get(row["model"], row["model"]),
            "run": name,
            "row": f"{_MODELS.get(row['model'], row['model'])} {name}",
            "value": value,
            "low": interval[0] if interval else None,
            "high": interval[1] if interval else None,
        }
        for row in rows
        for name, value, interval in zip(_NAMES, row["values"], row["intervals"], strict=True)
    ]
    names = [{"field": field, "type": "nominal"} for field in ("model", "run")]
    tooltip = names + [
        {"field": field, "type": "quantitative", "format": ".4f"}
        for field in ("value", "low", "high")
    ]
    place = {"field": "row", "type": "nominal", "sort": None, "title": None}
    scale = {"zero": False, "nice": True, "padding": 12}
    colour = {"field": "run", "type": "nominal", "scale": _COLOURS, "legend": None}
    value = {"type": "quantitative", "scale": scale, "title": f"{wording.words(metric)} →"}
    intervals = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.5},
        "encoding": {"x": {**value, "field": "low"}, "x2": {"field": "high"}},
    }
    values = {
        "mark": {"type": "point", "size": 90},
        "encoding": {"x": {**value, "field": "value"}},
    }
    known = any(point["low"] is not None for point in points)
    spec = {
        "height": 60 + 34 * len(points),
        "data": {"values": points},
        "encoding": {"y": place, "color": colour, "tooltip": tooltip},
        "layer": [intervals, values] if known else [values],  # Vega warns of an empty layer
    }
    told = "; ".join(f"{point['row']}: {wording.number(point['value'])}" for point in points)
    return vega.chart(spec, "quality", f"{wording.headline(metric)} in A and in B", f"{told}.")


def difference_chart(clients: Facts) -> Markup:
    """Draws how many clients gain and lose how much from A to B."""
    edges, counts = clients["histogram"]["edges"], clients["histogram"]["counts"]
    sign = 1 if clients["higher_is_better"] else -1
    bars = [
        {
            "from": low,
            "to": high,
            "clients": count,
            "what": _side((low + high) / 2 * sign, high - low),
        }
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    spec = {
        "height": 270,
        "data": {"values": bars},
        "mark": {"type": "rect", "stroke": vega.SURFACE, "strokeWidth": 1},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "title": f"{wording.words(clients['metric'])} in B less that in A →",
            },
            "x2": {"field": "to"},
            "y": {"field": "clients", "type": "quantitative", "title": "↑ clients"},
            "y2": {"datum": 0},
            "color": {
                "field": "what",
                "type": "nominal",
                "scale": {
                    "domain": ["worse in B", "about the same", "better in B"],
                    "range": [vega.SECOND, vega.SOFT, vega.ACCENT],
                },
                "legend": {"offset": 24},
            },
            "tooltip": [
                {"field": "from", "type": "quantitative", "format": ".3f"},
                {"field": "to", "type": "quantitative", "format": ".3f"},
                {"field": "clients", "type": "quantitative"},
            ],
        },
    }
    told = (
        f"Of {clients['pairs']} clients {clients['better']} fare better in B, {clients['worse']} "
        f"worse and {clients['same']} the same."
    )
    return vega.chart(spec, "clients", "Client by client, from A to B", told)


def _side(gain: float, width: float) -> str:
    """Which side of no difference a bin is on; the middle one holds it."""
    if abs(gain) < width / 2:
        return "about the same"
    return "better in B" if gain > 0 else "worse in B"
