"""Numbers, names and lists as the report writes them."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from jinja2 import Undefined
from markupsafe import Markup

MOST_ROWS = 100
MISSING = "—"


def is_finite_number(value: object) -> bool:
    """Whether a value of a JSON file can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def byte_size(count: float) -> str:
    """Writes a number of bytes for people, in powers of ten.

    >>> byte_size(950), byte_size(4100), byte_size(15_600_000)
    ('950 B', '4.1 kB', '15.6 MB')
    """
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def compact(value: float) -> str:
    """Writes a number for an axis, in few characters.

    >>> compact(0.925), compact(150), compact(150_000)
    ('0.925', '150', '150k')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def rounded_up(epsilon: float) -> str:
    """Writes epsilon with two decimals, never less than what was spent.

    >>> rounded_up(3.99), rounded_up(3.9901)
    ('3.99', '4.00')
    """
    return str(Decimal(repr(float(epsilon))).quantize(Decimal("0.01"), ROUND_CEILING))


def _or_dash(write: Callable[[float], str]) -> Callable[[Any], str]:
    """Makes a number's writer show a dash where there is no number."""

    def shown(value: Any) -> str:
        if value is None or isinstance(value, Undefined | bool):
            return MISSING
        if not isinstance(value, int | float):
            return str(value)
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return "not a number" if math.isnan(value) else write(value).replace("-", "−")

    return shown


@_or_dash
def number(value: float) -> str:
    """Three decimals, fewer for large and more for tiny numbers."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if 0 < size < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 100 else f"{value:.1f}"


@_or_dash
def whole(value: float) -> str:
    """As it is, with separated thousands and no needless decimals."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


@_or_dash
def percent(value: float) -> str:
    """A share in hundredths, with one decimal at most."""
    return f"{round(100 * value, 1) + 0.0:g}%"  # no -0


@_or_dash
def times(value: float) -> str:
    """How many times as much."""
    return f"{value:.1f}×"


@_or_dash
def microseconds(value: float) -> str:
    """A time, in milliseconds from one on."""
    return f"{value:.3g} µs" if value < 1000 else f"{value / 1000:.3g} ms"


@_or_dash
def scientific(value: float) -> str:
    """For delta: 1e-05 as 10⁻⁵, 2.5e-06 as 2.5 × 10⁻⁶."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    power = int(exponent) + len(digits) - 1
    factor = Decimal((sign, digits, 1 - len(digits)))
    raised = f"10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return raised if factor == 1 else f"{factor} × {raised}"


def words(value: Any) -> str:
    """A name such as add_or_remove_one_client as words; yes, no or a dash for the rest."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text(value).replace("_", " ")


def text(value: Any) -> str:
    """A text as it is, or a dash where there is none."""
    return MISSING if value is None or isinstance(value, Undefined) or value == "" else str(value)


def headline(value: Any) -> str:
    """The words with a capital at the start; RMSE stays RMSE."""
    return words(value)[:1].upper() + words(value)[1:]


def breakable(value: Any) -> Markup:
    """A name that may break after its dots and underscores, and in CamelCase."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])|(?<=[a-z])(?=[A-Z])", text(value)))


def path(value: Any) -> Markup:
    """A path that may break after its slashes."""
    return Markup("<wbr>").join(re.split(r"(?<=[/\\])", text(value)))


def moment(value: Any) -> str:
    """A time in ISO 8601 as people write it; what is no such time as it is.

    >>> moment("2026-03-07T14:05:09.5+00:00")
    '7 March 2026, 14:05 UTC'
    """
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        return text(value)
    return f"{when.day} {when:%B %Y, %H:%M %Z}".rstrip()


def change(values: tuple[Any, Any]) -> str:
    """The step from the first number to the second, with its sign."""
    before, after = values
    if not (is_finite_number(before) and is_finite_number(after)):
        return MISSING
    difference = after - before
    return ("+" if difference > 0 else "") + number(difference)


def numbered(rows: Iterable[Any]) -> list[tuple[int, Any]]:
    """Each row with its number, from 1."""
    return list(enumerate(rows, start=1))


def spaced(rows: Iterable[Any], most: int = MOST_ROWS) -> Sequence[Any]:
    """At most so many of the rows, evenly spaced, always with the first and the last."""
    every = list(rows)
    if len(every) <= most:
        return every
    step = (len(every) - 1) / (most - 1)
    return [every[round(index * step)] for index in range(most)]


def shorten(text: str, longest: int) -> str:
    """The text on one line, cut with an ellipsis after `longest` characters.

    >>> shorten("float32, pruned to half", 12)
    'float32, pr…'
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels as numbers if all are numbers, else by name.

    >>> in_order({"10", "9"}), in_order({"10", "9", "cat"})
    (['9', '10'], ['10', '9', 'cat'])
    """
    named = list(labels)
    try:
        return sorted(named, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(named)


def interval(limits: Any) -> str:
    """Two limits of an interval, or nothing where there is none."""
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        return ""
    return f"{number(limits[0])} to {number(limits[1])}"


@_or_dash
def seconds(value: float) -> str:
    """A span of time, in minutes or hours from a few on."""
    if value < 10:
        return f"{value:.2g} s"
    if value < 600:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 36_000 else f"{value / 3600:.1f} h"


_STATE_SIGNS = {"complete": "✓", "cached": "↻", "failed": "✕", "running": "…"}


def state_class(node: Mapping[str, Any]) -> str:
    """The kind of a node's state: complete, cached, failed, running or other."""
    state = "cached" if node.get("cached") else str(node.get("state")).lower()
    return state if state in _STATE_SIGNS else "other"


def state_sign(node: Mapping[str, Any]) -> str:
    """A sign for a node's state, so that colour need not tell it."""
    return _STATE_SIGNS.get(state_class(node), "○")


def state_words(node: Mapping[str, Any]) -> str:
    """A node's state and, if it ran, its time.

    >>> state_words({"state": "complete", "seconds": 12.3, "cached": False})
    'complete, 12 s'
    >>> state_words({"state": "complete", "seconds": 0.1, "cached": True})
    'cached'
    """
    if state_class(node) == "cached":
        return "cached"
    state = "not started" if node.get("state") == "missing" else words(node.get("state"))
    return f"{state}, {seconds(node['seconds'])}" if node.get("seconds") else state


def compact_json(value: Any) -> str:
    """A structured value as one line of JSON; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "whole": whole,
    "epsilon": _or_dash(rounded_up),
    "scientific": scientific,
    "bytes": _or_dash(byte_size),
    "times": times,
    "microseconds": microseconds,
    "percent": percent,
    "words": words,
    "text": text,
    "change": change,
    "interval": interval,
    "moment": moment,
    "path": path,
    "state_class": state_class,
    "state_sign": state_sign,
    "state_words": state_words,
    "seconds": seconds,
    "numbered": numbered,
    "headline": headline,
    "breakable": breakable,
    "spaced": spaced,
    "compact_json": compact_json,
}
"""The filters of the template; a value that is absent shows as a dash."""
