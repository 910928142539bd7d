"""Charts of the audit: the attack's trade-off, and the canaries that took part or did not."""

from collections.abc import Sequence

from markupsafe import Markup

from privet.components.report.chart_parts import diagonal, near, quantity, tooltip, words
from privet.components.report.vega import ACCENT, SECOND, chart
from privet.components.report.wording import compact, number, percent

_SHARES = {"format": ".0%"}


def roc(fpr: Sequence[float], tpr: Sequence[float], auc: float) -> Markup:
    """Draws how many members the attack finds, by how many others it takes for members.

    Args:
        fpr: share of non-members taken for members, rising from 0 to 1.
        tpr: share of members found, at each of these.
        auc: area under the curve.
    """
    rows = [
        {"a": false, "b": true, "wrong": percent(false), "found": percent(true)}
        for false, true in zip(fpr, tpr, strict=True)
    ]
    domain = {"domain": [0, 1]}
    x = quantity("a", title="non-members taken for members", axis=_SHARES, scale=domain)
    y = quantity("b", title="members found", axis=_SHARES, scale=domain)
    spec = {
        "height": 320,
        "data": {"values": rows},
        "encoding": {"x": x, "y": y},
        "layer": [
            diagonal(),
            words(
                [{"text": "guessing", "a": 0.6, "b": 0.6}],
                quantity("a"),
                quantity("b"),
                align="left",
                dx=4,
                dy=12,
            ),
            {"mark": {"type": "line", "interpolate": "linear"}},
            near(tooltip(found="Members found", wrong="Others taken for members")),
        ],
    }
    return chart(
        spec,
        "roc",
        "Membership attack",
        "Share of members found, by the share of non-members taken for members. The area under "
        f"the curve is {number(auc)}; guessing, the dashed line, has 0.5.",
    )


def canaries(edges: Sequence[float], included: Sequence[int], excluded: Sequence[int]) -> Markup:
    """Draws the canaries' statistic: upwards those that took part, downwards those left out."""
    rows = [
        {
            "from": left,
            "to": right,
            "count": sign * count,
            "what": what,
            "clients": f"{count:,}",
            "range": f"{compact(left)} to {compact(right)}",
        }
        for what, sign, counts in (("included", 1, included), ("left out", -1, excluded))
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
    tallest = max(*included, *excluded, 1)
    x = quantity(
        "from",
        title="largest cosine with a round's update",
        scale={"domain": [edges[0], edges[-1]], "nice": False},
    )
    x["axis"] = {"domain": False}
    y = quantity(
        "count", title="canaries", axis={"labelExpr": "abs(datum.value)", "tickMinStep": 1}
    )
    y["scale"] = {"domain": [-1.15 * tallest, 1.15 * tallest], "nice": False}
    spec = {
        "height": 320,
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "bar", "binSpacing": 1},
                "encoding": {
                    "x": x,
                    "x2": {"field": "to"},
                    "y": y,
                    "y2": {"datum": 0},
                    "color": {
                        "field": "what",
                        "legend": {"offset": 28},
                        "scale": {"domain": ["included", "left out"], "range": [ACCENT, SECOND]},
                    },
                    "tooltip": tooltip(what="Canaries", range="Cosine", clients="Number"),
                },
            },
            {"mark": "rule", "data": {"values": [{}]}, "encoding": {"y": {"datum": 0}}},
        ],
    }
    return chart(
        spec,
        "canaries",
        "Canaries",
        f"A histogram of {sum(included):,} canaries that were included, upwards, and of "
        f"{sum(excluded):,} that were left out, downwards. The further the two lie apart, the "
        "more the model tells of who took part.",
    )
