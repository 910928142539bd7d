"""docs/privacy_values.md: every row of its tables, computed again with what training uses."""

import decimal
import math
import re
from collections.abc import Sequence
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting import rdp
from tensorflow_federated.python.aggregators import differential_privacy as tff_privacy

from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import RELATION, epsilon_by_rdp, epsilon_of
from privet.components.train.accounting import (
    count_noise_of,
    joint_noise_multiplier,
    value_noise_multiplier,
)
from privet.components.train.mechanism import gaussian
from privet.components.train.privacy_config import AdaptiveClipConfig
from privet.components.train.sampling import AllClients, PoissonSampler

PAGE = Path(__file__).resolve().parents[3] / "docs" / "privacy_values.md"
TEXT = PAGE.read_text(encoding="utf-8")

ORDERS = [*(1 + tenth / 10 for tenth in range(1, 100)), *range(12, 64)]  # TF Privacy's


def table_under(heading: str) -> list[dict[str, str]]:
    """The rows of the table under a heading, each by its column titles."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(titles, row, strict=True)) for row in rows]


EPSILONS = table_under("Epsilon")
CLIPS = table_under("Adaptive clipping")


def noise_of(text: str) -> float:
    """A noise multiplier, as 7 or as 7/sqrt(79)."""
    noise, _, squared_norm = text.partition("/sqrt(")
    return float(noise) / math.sqrt(float(squared_norm.rstrip(")") or 1))


def parameters_of(row: dict[str, str]) -> tuple[dp_accounting.DpEvent, float]:
    """The event of all rounds and delta, from the cell `clients=… cohort=… noise=… …`."""
    values = dict(setting.split("=") for setting in row["Parameters"].strip("`").split())
    sampler: AllClients | PoissonSampler = AllClients(1)
    if "cohort" in values:
        sampler = PoissonSampler(int(values["clients"]), int(values["cohort"]))
    event = gaussian(sampler.draws, noise_of(values["noise"])).event(int(values["rounds"]))
    return event, float(values["delta"])


def moments_epsilon(
    event: dp_accounting.DpEvent, delta: float, orders: Sequence[float] = ORDERS
) -> float:
    """Epsilon by the moments accountant: Rényi DP by the conversion of Mironov, 2017.

    The accountant's own conversion, at one order a, gives
    RDP(a) + log(1 - 1/a) - log(delta a) / (a - 1), from which RDP(a) follows.
    """

    def at(order: float) -> float:
        accountant = rdp.RdpAccountant([order], RELATION).compose(event)
        tighter_by = math.log(order) / (order - 1) - math.log1p(-1 / order)
        return accountant.get_epsilon(delta) + tighter_by

    return min(at(order) for order in orders)


def rdp_epsilon(event: dp_accounting.DpEvent, delta: float) -> float:
    """Epsilon by Rényi DP, as the ledger has it beside PLD."""
    return epsilon_by_rdp(event, delta)


ANALYSES = {
    "moments": moments_epsilon,
    "moments, whole orders": lambda event, delta: moments_epsilon(event, delta, range(2, 65)),
    "RDP": rdp_epsilon,
    "PLD": epsilon_of,
}


def shown(value: float, cell: str) -> str:
    """The value with as many decimals as the cell has."""
    return f"{value:.{len(cell.partition('.')[2])}f}"


def equal_digits(published: str, recomputed: float) -> int:
    """The most leading digits that both have in common, when rounded to so many."""

    def rounded(number: decimal.Decimal, digits: int) -> decimal.Decimal:
        return decimal.Context(digits, decimal.ROUND_HALF_UP).plus(number)

    one, other = decimal.Decimal(published), decimal.Decimal(recomputed)
    most = len(one.as_tuple().digits)
    return max(n for n in range(most + 1) if n == 0 or rounded(one, n) == rounded(other, n))


def test_page_has_every_setting() -> None:
    settings = " ".join(row["Setting"] for row in EPSILONS)
    for setting in ("DP-SGD, MNIST", "DP-FedAvg", "DP-FTRL", "dp_accounting", "TF Privacy"):
        assert setting in settings
    assert len(EPSILONS) >= 29
    assert len(CLIPS) >= 4


@pytest.mark.parametrize("row", EPSILONS, ids=lambda row: f"{row['Setting']} {row['Published']}")
def test_published_epsilon_is_recomputed(row: dict[str, str]) -> None:
    event, delta = parameters_of(row)
    recomputed = ANALYSES[row["Analysis"]](event, delta)
    privet = epsilon_of(event, delta)

    assert shown(recomputed, row["Recomputed"]) == row["Recomputed"]
    assert shown(privet, row["Privet"]) == row["Privet"]
    assert privet <= recomputed  # PLD is the tightest of the three
    bound, _, number = row["Published"].rpartition(" ")
    if bound:
        assert (recomputed <= float(number)) == (bound == "≤")
        assert row["Agreement"] == "holds"
    else:
        assert row["Agreement"] == f"{equal_digits(number, recomputed)} digits"


def test_agreement_is_counted_in_rounded_digits() -> None:
    assert equal_digits("1.26", 1.2586) == 3
    assert equal_digits("7.10", 7.1049) == 3
    assert equal_digits("2.55", 2.5737) == 2
    assert equal_digits("2.55", 3.9) == 0


def squared_norm(rounds_of_client: list[int], rounds: int) -> int:
    """What a client adds to the nodes of a forest of binary trees over the rounds, squared."""
    total, size = 0, 1
    while size <= rounds:
        for start in range(0, rounds - size + 1, size):
            total += sum(start <= one < start + size for one in rounds_of_client) ** 2
        size *= 2
    return total


def test_tree_over_stack_overflow_has_eleven_nodes_above_a_round() -> None:
    assert max(squared_norm([one], 1600) for one in range(0, 1600, 64)) == 11

    tree = dp_accounting.SingleEpochTreeAggregationDpEvent(1.13, 1600)
    relation = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    by_tree = rdp.RdpAccountant(neighboring_relation=relation).compose(tree).get_epsilon(1e-6)
    gaussian = dp_accounting.GaussianDpEvent(1.13 / math.sqrt(11))
    assert rdp_epsilon(gaussian, 1e-6) == pytest.approx(by_tree, rel=1e-9)


def test_tree_of_gboard_has_the_squared_norm_and_zcdp_of_the_notebook() -> None:
    # Evenly spaced, six rounds 314 apart fit from any of the first 430.
    patterns = [[first + 314 * use for use in range(6)] for first in range(430)]
    assert squared_norm(patterns[0], 2000) == 79
    assert max(squared_norm(pattern, 2000) for pattern in patterns[::10]) == 79
    assert f"{79 / (2 * 7.0**2):.2f}" == "0.81"


def test_cohorts_of_the_tutorial_are_neighbours_in_its_search() -> None:
    least, smaller = (row for row in EPSILONS if row["Setting"].startswith("DP-FedAvg, EMNIST"))
    assert "cohort=120 noise=1.2 " in least["Parameters"]
    assert "cohort=119 noise=1.19 " in smaller["Parameters"]  # 0.01 for each client


@pytest.mark.parametrize("row", CLIPS, ids=lambda row: row["Setting"])
def test_noise_of_adaptive_clipping_is_the_published_one(row: dict[str, str]) -> None:
    noise, cohort = float(row["Noise multiplier"]), float(row["Cohort"])
    count_noise = count_noise_of(AdaptiveClipConfig(), cohort)
    assert shown(count_noise, row["Noise on the count"]) == row["Noise on the count"]

    if row["Noise on updates"] == "refused":
        with pytest.raises(ConfigError, match="is too little"):
            value_noise_multiplier(noise, count_noise)
        with pytest.raises(ValueError, match="is too low"):
            tff_privacy.adaptive_clip_noise_params(noise, cohort)
        return
    value_noise = value_noise_multiplier(noise, count_noise)
    assert shown(value_noise, row["Noise on updates"]) == row["Noise on updates"]
    theirs = tff_privacy.adaptive_clip_noise_params(noise, cohort)
    assert theirs == pytest.approx((value_noise, count_noise), rel=1e-12)


def test_epsilon_of_adaptive_clipping_is_that_of_the_noise_multiplier() -> None:
    # The TFF tutorial's run: updates with noise 1.2060, the count with 2 · 6.
    both = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.GaussianDpEvent(value_noise_multiplier(1.2, 6.0)),
            dp_accounting.GaussianDpEvent(2 * 6.0),
        ]
    )
    assert joint_noise_multiplier(both) == pytest.approx(1.2)
    sampled = dp_accounting.PoissonSampledDpEvent(120 / 3383, both)
    together = dp_accounting.SelfComposedDpEvent(sampled, 100)
    alone = gaussian(PoissonSampler(3383, 120).draws, 1.2).event(100)
    assert rdp_epsilon(together, 1e-5) == pytest.approx(rdp_epsilon(alone, 1e-5), rel=1e-9)
