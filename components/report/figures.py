"""The report's figures: plain numbers in, one inline SVG each out.

matplotlib draws on the axes of `canvas.py`; `svg.py` makes the drawing a part of a web page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from privet.components.report.canvas import (
    SMALL_TEXT,
    TEXT,
    WIDTH,
    add_axes,
    legend,
    new_figure,
    say,
    shorten,
)
from privet.components.report.svg import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    SECOND,
    SOFT,
    SURFACE,
    THIRD,
    inline_svg,
)
from privet.components.report.wording import byte_size, compact, rounded_up

MOST_LABELS = 24


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


@dataclass(frozen=True)
class VariantSize:
    """One variant of the model and what it weighs, in bytes."""

    name: str
    raw: int
    gzip: int
    served: bool = False


def epsilon_over_rounds(
    epsilon_by_round: Sequence[float | None], target: float | None = None, before: float = 0.0
) -> str:
    """Draws the privacy spent before the first and after the known rounds, and the target."""
    known = [(0, before)] + [
        (number, epsilon)
        for number, epsilon in enumerate(epsilon_by_round, start=1)
        if epsilon is not None
    ]
    rounds, spent = zip(*known, strict=True)
    last = rounded_up(spent[-1])
    figure, axes = _line_figure(rounds, spent, last, "↑ ε spent", 244)
    axes.fill_between(rounds, spent, color=ACCENT, alpha=0.12, linewidth=0)
    axes.set_ylim(0, 1.14 * max(*spent, target or 0.0, 1e-9))
    if target is not None:
        axes.axhline(target, color=MUTED, linewidth=1, dashes=(4, 3))
        say(axes, f"target {target:g}", (0.02, target), (0, 4), axes.get_yaxis_transform())
    limit = "" if target is None else f"; the target is {target:g}"
    start = f"from {rounded_up(before)} " if before else ""
    description = f"Epsilon rises {start}to {last} over {len(epsilon_by_round)} rounds{limit}."
    return inline_svg(figure, "epsilon", "Privacy spent over rounds", description)


def metric_over_rounds(rounds: Sequence[int], values: Sequence[float], metric: str) -> str:
    """Draws the evaluation metric after the rounds in which it was measured."""
    last = compact(float(f"{values[-1]:.3g}"))
    figure, axes = _line_figure(rounds, values, last, f"↑ {shorten(metric, 40)}", 290)
    if len(rounds) <= 40:
        axes.plot(rounds, values, "o", color=ACCENT, markersize=4, markeredgewidth=0)
    axes.margins(y=0.12)
    description = (
        f"{metric} goes from {values[0]:.6g} after round {rounds[0]} "
        f"to {values[-1]:.6g} after round {rounds[-1]}."
    )
    return inline_svg(figure, "metric", f"{metric} over rounds", description)


def client_distribution(models: Sequence[ClientHistogram], metric: str) -> str:
    """Draws one histogram of clients per model, one above the other on the same axes.

    The second, by custom the compressed model that is served, has the strongest colour.
    """
    row, gap, top, bottom = 62, 28, 26, 38
    height = top + len(models) * (row + gap) - gap + bottom
    figure = new_figure(height)
    low, high = _filled_range(models)
    tallest = max(max(model.counts) for model in models)
    for index, model in enumerate(models):
        base = height - top - index * (row + gap) - row
        axes = add_axes(figure, left=34, bottom=base, right=18, height=row)
        widths = [right - left for left, right in zip(model.edges, model.edges[1:], strict=False)]
        axes.bar(
            model.edges[:-1],
            model.counts,
            width=widths,
            align="edge",
            color=(SOFT, ACCENT, THIRD)[index % 3],
            edgecolor=SURFACE,
            linewidth=1,
        )
        if model.median is not None:
            axes.axvline(model.median, color=INK, linewidth=1.5)
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.08 * max(tallest, 1))
        axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        bold = {"color": INK, "fontsize": TEXT, "fontweight": "bold"}
        say(axes, shorten(model.model, 14), (0, 1), (0, 8), "axes fraction", **bold)
        say(axes, shorten(model.note, 42), (1, 1), (0, 8), "axes fraction", ha="right")
        axes.tick_params(labelbottom=index == len(models) - 1)
    axes.set_xlabel(f"{shorten(metric, 40)} →", loc="right", color=MUTED, fontsize=SMALL_TEXT)
    medians = (
        f"{model.model}: median {model.median:.6g}" for model in models if model.median is not None
    )
    description = f"One histogram of clients per model; a line is the median. {'; '.join(medians)}."
    return inline_svg(figure, "clients", f"{metric} per client", description)


def variant_sizes(variants: Sequence[VariantSize]) -> str:
    """Draws the raw and the gzipped size of every variant, the name above its two bars."""
    row, top, bottom = 52, 30, 4
    height = top + len(variants) * row + bottom
    figure = new_figure(height)
    axes = add_axes(figure, left=2, bottom=bottom, right=2, height=len(variants) * row)
    axes.set_axis_off()
    largest = max(max(variant.raw, variant.gzip) for variant in variants)
    axes.set_xlim(0, 1.22 * max(largest, 1))
    axes.set_ylim(len(variants) * row, 0)
    for index, variant in enumerate(variants):
        name = shorten(variant.name, 36) + (" · served" if variant.served else "")
        weight = "bold" if variant.served else "normal"
        line = index * row
        style = {"color": INK, "fontsize": TEXT, "fontweight": weight}
        say(axes, name, (0, line + 12), (0, 0), "data", **style)
        for size, centre, colour in ((variant.raw, 23, SOFT), (variant.gzip, 36, ACCENT)):
            axes.barh(line + centre, size, height=10, color=colour, linewidth=0)
            place = (size, line + centre)
            say(axes, byte_size(size), place, (6, 0), "data", color=INK, va="center_baseline")
    legend(figure, (("■", "raw", SOFT), ("■", "gzip", ACCENT)))
    sizes = (
        f"{variant.name}: {byte_size(variant.raw)} raw, {byte_size(variant.gzip)} gzipped"
        for variant in variants
    )
    return inline_svg(figure, "sizes", "Size of every variant", "; ".join(sizes) + ".")


def label_shares(labels_by_split: Mapping[str, Mapping[str, int]]) -> str:
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
    shown = [shorten(label, 16) for label in labels]
    top, bottom = 30, 38
    plot = 19 * len(labels)
    figure = new_figure(top + plot + bottom)
    left = 12 + 7.5 * max(len(label) for label in shown)
    axes = add_axes(figure, left=left, bottom=bottom, right=16, height=plot)
    lines = range(len(labels))
    bars = [shares[first].get(label, 0.0) for label in labels]
    axes.barh(lines, bars, height=0.68, color=SOFT, linewidth=0)
    dots = dict(zip(others, (SECOND, INK), strict=False))
    for split, colour in dots.items():
        dotted = [shares[split].get(label, 0.0) for label in labels]
        axes.plot(
            dotted, lines, "o", color=colour, markersize=7, markeredgecolor=SURFACE, clip_on=False
        )
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=LINE, linewidth=1)
    axes.set_yticks(lines, shown)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.set_xlabel("share of examples →", loc="right", color=MUTED, fontsize=SMALL_TEXT)
    legend(figure, (("■", first, SOFT), *(("●", split, dots[split]) for split in dots)))
    rest = f" The {omitted} rarest are not drawn." if omitted > 0 else ""
    description = f"Each label's share of the examples of {', '.join((first, *dots))}.{rest}"
    return inline_svg(figure, "labels", "Examples by label", description)


def in_order(labels: set[str]) -> list[str]:
    """Labels as numbers if all are numbers, else by name."""
    try:
        return sorted(labels, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(labels)


def _line_figure(
    rounds: Sequence[int], values: Sequence[float], last: str, vertical: str, height: float
) -> tuple[Figure, Axes]:
    """A line over rounds whose last value stands in the right margin, and level axis names."""
    figure = new_figure(height)
    axes = add_axes(figure, left=42, bottom=38, right=50, height=height - 68)
    axes.plot(rounds, values, color=ACCENT, linewidth=2)
    axes.plot(rounds[-1:], values[-1:], "o", color=ACCENT, markersize=7, clip_on=False, zorder=5)
    bold = {"color": INK, "fontsize": TEXT + 1, "fontweight": "bold", "va": "center_baseline"}
    say(axes, last, (rounds[-1], values[-1]), (9, 0), "data", **bold)
    axes.set_xlim(min(0, *rounds), max(rounds))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("round →", loc="right", color=MUTED, fontsize=SMALL_TEXT)
    figure.text(2 / WIDTH, 1 - 14 / height, vertical, color=MUTED, fontsize=SMALL_TEXT)
    return figure, axes


def _filled_range(models: Sequence[ClientHistogram]) -> tuple[float, float]:
    """The range of all bins that hold a client, or of all bins if none does."""
    bins = [
        (left, right, count)
        for model in models
        for left, right, count in zip(model.edges, model.edges[1:], model.counts, strict=False)
    ]
    filled = [item for item in bins if item[2]] or bins
    return min(item[0] for item in filled), max(item[1] for item in filled)
