"""Charts of a training: the privacy spent, the metric, the cohorts and the sparsity by round."""

from collections.abc import Sequence

from markupsafe import Markup

from privet.components.report.chart_parts import over_rounds, quantity, words
from privet.components.report.vega import MUTED, chart
from privet.components.report.wording import compact, percent, rounded_up


def epsilon_over_rounds(
    epsilon_by_round: Sequence[float | None], target: float | None = None, before: float = 0.0
) -> Markup:
    """Draws the privacy spent before the first and after the known rounds, and the target."""
    known = [(0, before)] + [
        (number, epsilon)
        for number, epsilon in enumerate(epsilon_by_round, start=1)
        if epsilon is not None
    ]
    spent = known[-1][1]
    layers = []
    if target is not None:
        y = quantity("target")
        rows = [{"target": target, "text": f"target {target:g}"}]
        rule = {"type": "rule", "strokeDash": [4, 3], "color": MUTED}
        layers = [
            {
                "data": {"values": rows},
                "mark": rule,
                "encoding": {"x": {"value": 0}, "x2": {"value": "width"}, "y": y},
            },
            words(rows, {"value": 6}, y, align="left", dy=-8),
        ]
    spec = over_rounds(
        known,
        "ε spent",
        rounded_up,
        height=244,
        filled=True,
        domain=(0, 1.14 * max(spent, target or 0.0, 1e-9)),
        layers=layers,
    )
    limit = "" if target is None else f"; the target is {target:g}"
    start = f"from {rounded_up(before)} " if before else ""
    return chart(
        spec,
        "epsilon",
        "Privacy spent over rounds",
        f"Epsilon rises {start}to {rounded_up(spent)} over {len(epsilon_by_round)} rounds{limit}.",
    )


def metric_over_rounds(rounds: Sequence[int], values: Sequence[float], metric: str) -> Markup:
    """Draws the evaluation metric after the rounds in which it was measured."""
    rows = list(zip(rounds, values, strict=True))
    form = "~s" if max(map(abs, values)) >= 1000 else "~g"
    return chart(
        over_rounds(rows, metric, _three_digits, height=290, form=form),
        "metric",
        f"{metric} over rounds",
        f"{metric} goes from {values[0]:.6g} after round {rounds[0]} to {values[-1]:.6g} after "
        f"round {rounds[-1]}.",
    )


def cohorts_over_rounds(rounds: Sequence[int], clients: Sequence[int]) -> Markup:
    """Draws how many clients took part in each round."""
    rows = list(zip(rounds, clients, strict=True))
    return chart(
        over_rounds(
            rows, "clients", compact, height=190, form="~s", domain=(0, 1.1 * max(*clients, 1))
        ),
        "cohorts",
        "Clients per round",
        f"From {min(clients):,} to {max(clients):,} clients took part in a round.",
    )


def sparsity_over_rounds(rounds: Sequence[int], shares: Sequence[float]) -> Markup:
    """Draws the share of weights that are zero after each round."""
    rows = list(zip(rounds, shares, strict=True))
    return chart(
        over_rounds(
            rows, "share of weights that are zero", percent, height=190, form=".0%", domain=(0, 1)
        ),
        "sparsity",
        "Sparsity over rounds",
        f"{percent(shares[0])} of the weights are zero after round {rounds[0]}, "
        f"{percent(shares[-1])} after round {rounds[-1]}.",
    )


def _three_digits(value: float) -> str:
    return compact(float(f"{value:.3g}"))
