"""What several charts are made of: lines over rounds, bars in named rows, tooltips."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from privet.components.report import vega
from privet.components.report.vega import ACCENT, INK, MUTED, SOFT
from privet.components.report.wording import shorten, spaced

MOST_POINTS = 200

Layer = dict[str, Any]


def tooltip(**fields: str) -> list[dict[str, str]]:
    """The lines of a tooltip: field of a row = the name shown for it.

    >>> tooltip(round="Round")
    [{'field': 'round', 'title': 'Round', 'type': 'nominal'}]
    """
    return [{"field": key, "title": name, "type": "nominal"} for key, name in fields.items()]


def quantity(field: str, **channel: Any) -> dict[str, Any]:
    """A channel that shows a number."""
    return {"field": field, "type": "quantitative", **channel}


def words(
    rows: Sequence[Mapping[str, Any]], x: dict[str, Any], y: dict[str, Any], **mark: Any
) -> Layer:
    """Text of the rows' `text`, at a place."""
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "text", **mark},
        "encoding": {"x": x, "y": y, "text": {"field": "text"}},
    }


def near(said: list[dict[str, str]], **select: Any) -> Layer:
    """A point that shows, with its tooltip, where the pointer is nearest."""
    hover = {"type": "point", "on": "pointerover", "clear": "pointerout", "nearest": True, **select}
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    return {
        "params": [{"name": "near", "select": hover}],
        "mark": {"type": "point", "size": 70},
        "encoding": {"opacity": shown, "tooltip": said},
    }


def over_rounds(
    rows: Sequence[tuple[int, float]],
    title: str,
    write: Callable[[float], str],
    *,
    height: float,
    form: str = "~g",
    filled: bool = False,
    domain: tuple[float, float] | None = None,
    layers: Sequence[Layer] = (),
) -> vega.Spec:
    """A line over rounds whose last value stands at its right.

    Args:
        rows: round and value; of many, at most `MOST_POINTS` are drawn, evenly spaced.
        title: of the vertical axis.
        write: makes text of a value.
        height: of the picture, `vega.WIDTH` being its width.
        form: how the vertical axis writes its numbers, as d3-format names it.
        filled: whether the area down to 0 is tinted.
        domain: of the vertical axis; by default as the values need.
        layers: drawn below the line.
    """
    values = [
        {"round": number, "value": value, "text": write(value)}
        for number, value in spaced(rows, MOST_POINTS)
    ]
    x = quantity("round", title="round", axis={"format": "~s", "tickMinStep": 1})
    x["scale"] = {"domain": [min(0, rows[0][0]), rows[-1][0]], "nice": False}
    scale: dict[str, Any] = {"domain": list(domain)} if domain else {"zero": False}
    y = quantity("value", title=shorten(title, 40), axis={"format": form}, scale=scale)
    last = values[-1:]
    return {
        "height": height,
        "padding": {"left": 2, "right": 50, "top": 6, "bottom": 2},
        "data": {"values": values},
        "encoding": {"x": x, "y": y},
        "layer": [
            *([{"mark": "area"}] if filled else []),
            *layers,
            {"mark": "line"},
            *([{"mark": "point"}] if len(values) <= 40 else []),
            {"data": {"values": last}, "mark": {"type": "point", "size": 50, "clip": False}},
            words(last, x, y, align="left", dx=8, color=INK, fontSize=13, fontWeight="bold"),
            near(tooltip(round="Round", text=title), encodings=["x"]),
        ],
    }


def paired_bars(
    rows: Sequence[tuple[str, tuple[float, float], bool]],
    names: tuple[str, str],
    write: Callable[[float], str],
) -> vega.Spec:
    """Two bars for each named row, the row's name above them; a legend names the bars.

    Args:
        rows: name, the two values, and whether the name is set in bold.
        names: of the two values.
        write: makes text of a value.
    """
    bars = [
        {
            "row": name,
            "what": what,
            "value": value,
            "text": write(value),
            "top": index + 0.36 + 0.29 * second,
            "bottom": index + 0.59 + 0.29 * second,
            "middle": index + 0.475 + 0.29 * second,
        }
        for index, (name, values, _) in enumerate(rows)
        for second, (what, value) in enumerate(zip(names, values, strict=True))
    ]
    titles = [
        {"text": shorten(name, 44), "at": index + 0.16, "bold": bold}
        for index, (name, _, bold) in enumerate(rows)
    ]
    largest = max(max(values) for _, values, _ in rows)
    x = quantity(
        "value", axis=None, scale={"domain": [0, 1.25 * max(largest, 1e-9)], "nice": False}
    )
    scale = {"domain": [0, len(rows)], "reverse": True, "nice": False}
    y = quantity("top", axis=None, scale=scale)
    return {
        "height": 30 + 52 * len(rows),
        "data": {"values": bars},
        "layer": [
            {
                "mark": {"type": "rect", "cornerRadiusEnd": 2},
                "encoding": {
                    "x": x,
                    "x2": {"datum": 0},
                    "y": y,
                    "y2": {"field": "bottom"},
                    "color": {
                        "field": "what",
                        "sort": None,
                        "scale": {"domain": list(names), "range": [SOFT, ACCENT]},
                    },
                    "tooltip": tooltip(row="Variant", what="What", text="Value"),
                },
            },
            words(bars, x, {**y, "field": "middle"}, align="left", dx=6, color=INK),
            *(
                words(
                    [one for one in titles if one["bold"] is bold],
                    {"value": 0},
                    {**y, "field": "at"},
                    align="left",
                    limit={"expr": "width"},
                    color=INK,
                    fontSize=13,
                    fontWeight="bold" if bold else "normal",
                )
                for bold in (False, True)
                if any(one["bold"] is bold for one in titles)
            ),
        ],
    }


def diagonal(**mark: Any) -> Layer:
    """The line from 0, 0 to 1, 1."""
    return {
        "data": {"values": [{"a": 0, "b": 0}, {"a": 1, "b": 1}]},
        "mark": {"type": "line", "color": MUTED, "strokeWidth": 1, "strokeDash": [4, 3], **mark},
        "encoding": {"x": quantity("a"), "y": quantity("b")},
    }
