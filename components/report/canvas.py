"""What the report's figures are drawn on: the figure's size, its bare axes, texts and legend.

A figure is 400 units wide with 11-unit text: 10 px on a phone, 14 px in a column of the desktop
page.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.typing import ColorType

from privet.components.report.svg import LINE, MUTED
from privet.components.report.wording import compact

WIDTH = 400
TEXT = 12
SMALL_TEXT = 11


def new_figure(height: float) -> Figure:
    """An empty transparent figure, `WIDTH` x height units at 72 units an inch."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    return figure


def add_axes(figure: Figure, *, left: float, bottom: float, right: float, height: float) -> Axes:
    """Axes at a place in units, with only what helps reading: a base line, light lines, numbers."""
    whole = height_of(figure)
    axes = figure.add_axes(
        (left / WIDTH, bottom / whole, (WIDTH - left - right) / WIDTH, height / whole)
    )
    axes.patch.set_visible(False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=LINE, linewidth=1)
    axes.tick_params(colors=MUTED, labelsize=SMALL_TEXT, length=0, pad=5)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    return axes


def say(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    shift: tuple[float, float],
    of: Any,
    **style: Any,
) -> None:
    """Writes a text at a place of a coordinate system, shifted by some units."""
    style = {"color": MUTED, "fontsize": SMALL_TEXT, "annotation_clip": False, **style}
    axes.annotate(text, place, xycoords=of, xytext=shift, textcoords="offset points", **style)


def legend(figure: Figure, entries: Sequence[tuple[str, str, ColorType]]) -> None:
    """Writes sign, name and colour of every series in one line at the top left."""
    x, y = 2.0, 1 - 12 / height_of(figure)
    for sign, name, colour in entries:
        figure.text(x / WIDTH, y, sign, color=colour, fontsize=TEXT)
        shown = shorten(name, 16)
        figure.text((x + 14) / WIDTH, y, shown, color=MUTED, fontsize=SMALL_TEXT)
        x += 14 + 7.5 * len(shown) + 14


def height_of(figure: Figure) -> float:
    """The figure's height in units."""
    return float(figure.get_size_inches()[1] * 72)


def shorten(text: str, longest: int) -> str:
    """The text on one line, cut with an ellipsis after `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
