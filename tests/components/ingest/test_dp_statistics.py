"""The release: its noise in numbers, what it claims, and that nothing exact is in it."""

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from privet.components.ingest.bounded_sums import BoundedSums
from privet.components.ingest.config import DpStatisticsConfig, IngestConfig
from privet.components.ingest.dp_statistics import check_delta, event, release
from privet.components.shared import noised_statistics
from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.noised_statistics import event_of
from privet.components.shared.privacy_loss import NOTHING, epsilon_of

WORDS = 4000
CLIENTS, ROWS, LIMIT = 3000, 4, 3
# Chance fails a check at six standard deviations once in a billion runs.
SIGMAS = 6


def make_config(**changes: Any) -> IngestConfig:
    return IngestConfig.from_mapping(
        {
            "files": "rows.csv",
            "client_id": "client",
            "features": {
                "x": {"columns": ["x_0", "x_1"], "minimum": 0, "maximum": 10},
                "word": {
                    "columns": "word",
                    "dtype": "int64",
                    "vocabulary": [f"w{index}" for index in range(WORDS)],
                },
                "free": {"columns": "free"},
            },
            "label": {"column": "digit", "classes": 4},
            "dp_statistics": {"epsilon": 2, "delta": 1e-6, "max_examples_per_client": LIMIT},
            **changes,
        }
    )


CONFIG = make_config()
SCHEMA = CONFIG.schema_of(CONFIG.features)
STATISTICS = (
    7  # clients, examples, examples_per_client, labels, x: mean, histogram; word: histogram
)


@pytest.fixture(scope="module")
def sums() -> BoundedSums:
    """3,000 training clients of four examples, of which three count; x is 2.5; no eval client."""
    found, rows = BoundedSums(CONFIG, SCHEMA), CLIENTS * ROWS
    features = {
        "x": np.full((rows, 2), 2.5, np.float32),
        "word": np.zeros((rows, 1), np.int64),
        "free": np.zeros((rows, 1), np.float32),
    }
    starts = np.arange(0, rows + 1, ROWS)
    found.add_many("train", features, np.arange(rows) % ROWS, starts)
    return found


@pytest.fixture(scope="module")
def released(sums: BoundedSums) -> list[dict[str, Any]]:
    """Many releases, for moments; in earnest there is one."""
    generator = np.random.default_rng(11)
    return [release(sums, generator) for _ in range(400)]


def noise_multiplier() -> float:
    return release(BoundedSums(CONFIG, SCHEMA))["mechanism"]["noise_multiplier"]


def test_release_spends_what_was_asked_for_and_no_more() -> None:
    spent = epsilon_of(event(CONFIG.dp_statistics, SCHEMA), 1e-6)
    assert 1.99 < spent <= 2

    # One Gaussian of noise z / sqrt(7): Balle, Wang, 2018, Theorem 8.
    noise = noise_multiplier() / math.sqrt(STATISTICS)
    half, below = 1 / (2 * noise), stats.norm.cdf
    assert below(half - 2 * noise) - math.exp(2) * below(-half - 2 * noise) <= 1e-6


def test_statistics_json_says_what_was_composed(sums: BoundedSums) -> None:
    written = json.loads(json.dumps(release(sums)))

    assert written["private"] is True
    assert event_of(written) == event(CONFIG.dp_statistics, SCHEMA)
    mechanism = written["mechanism"]
    assert mechanism["compositions"] == len(mechanism["statistics"]) == STATISTICS
    assert (mechanism["epsilon"], mechanism["delta"], mechanism["unit"]) == (2, 1e-6, "client")
    assert mechanism["neighbouring_relation"] == "add_or_remove_one_client"
    assert mechanism["max_examples_per_client"] == LIMIT
    assert mechanism["clients_covered"] == ["train", "eval"]
    sensitivities = {name: one["sensitivity"] for name, one in mechanism["statistics"].items()}
    assert sensitivities == {
        "clients": 1,
        "examples": 3,
        "examples_per_client": 1,
        "labels": 3,
        "x.mean": 3,
        "x.histogram": 6,
        "word.histogram": 3,
    }
    assert written["withheld"] == {"free": "it has no public range: set minimum and maximum"}
    assert written["splits"]["train"]["features"].keys() == {"x", "word"}


def test_given_generator_repeats_the_noise_and_claims_nothing(sums: BoundedSums) -> None:
    one, again = (release(sums, np.random.default_rng(3)) for _ in range(2))

    assert one == again
    assert one["private"] is False
    assert "generator" in one["not_private_because"]
    assert event_of(one) == NOTHING


def test_secret_noise_is_new_every_time_and_leaves_the_sums_alone(sums: BoundedSums) -> None:
    before = sums.sums["train"]["word.histogram"].copy()
    one, other = (
        np.array(release(sums)["splits"]["train"]["features"]["word"]["histogram"]["counts"])
        for _ in range(2)
    )

    assert np.array_equal(before, sums.sums["train"]["word.histogram"])
    # Equal noise: a few among 4,000, since it is rounded to whole numbers of a wide Gaussian.
    assert (one == other).mean() < 0.2
    assert (one != before).mean() > 0.9


def test_each_statistic_has_the_noise_of_its_sensitivity(released: list[Any]) -> None:
    noise = noise_multiplier()

    def column(read: Any) -> np.ndarray:
        return np.array([read(one["splits"]["train"]) for one in released]).ravel()

    checks = {
        "clients": (column(lambda s: s["clients"] - CLIENTS), 1),
        "examples": (column(lambda s: s["examples"] - CLIENTS * LIMIT), 3),
        "sizes": (
            column(lambda s: np.subtract(sizes_of(s), [0, CLIENTS])),
            1,
        ),
        "labels": (column(lambda s: np.subtract(labels_of(s), [CLIENTS, CLIENTS, CLIENTS, 0])), 3),
        "x": (
            column(
                lambda s: np.subtract(
                    s["features"]["x"]["histogram"]["counts"],
                    [0, 0, 2 * CLIENTS * LIMIT, *[0] * 7],
                )
            ),
            6,
        ),
        "word": (
            column(
                lambda s: np.subtract(
                    s["features"]["word"]["histogram"]["counts"],
                    [CLIENTS * LIMIT, *[0] * (WORDS - 1)],
                )
            ),
            3,
        ),
    }
    for name, (found, sensitivity) in checks.items():
        deviation = math.sqrt((noise * sensitivity) ** 2 + 1 / 12)  # rounding to whole numbers
        count = found.size
        assert abs(found.mean()) < SIGMAS * deviation / math.sqrt(count), name
        assert abs(found.std() / deviation - 1) < SIGMAS / math.sqrt(2 * count), name


def sizes_of(split: Any) -> Any:
    histogram = split["examples_per_client"]["histogram"]
    assert histogram["edges"] == [1, 2, 4]
    return histogram["counts"]


def labels_of(split: Any) -> list[int]:
    assert list(split["labels"]) == ["0", "1", "2", "3"]
    return list(split["labels"].values())


def test_stated_standard_errors_are_those_of_the_noise() -> None:
    stated = release(BoundedSums(CONFIG, SCHEMA))["mechanism"]["statistics"]

    for name, sensitivity in (("clients", 1), ("x.histogram", 6), ("x.mean", 3)):
        assert stated[name]["sensitivity"] == sensitivity
        assert stated[name]["standard_error"] == pytest.approx(
            math.hypot(noise_multiplier() * sensitivity, 0 if "mean" in name else 12**-0.5)
        )


def test_mean_is_right_within_its_standard_error(released: list[Any]) -> None:
    features = [one["splits"]["train"]["features"]["x"] for one in released]
    means = np.array([feature["mean"] for feature in features])
    errors = np.array([feature["mean_standard_error"] for feature in features])

    assert features[0]["public_range"] == [0, 10]
    assert abs(means.mean() - 2.5) < SIGMAS * errors.mean() / math.sqrt(len(means))
    assert abs(means.std() / errors.mean() - 1) < SIGMAS / math.sqrt(2 * len(means))


def test_empty_split_is_noised_like_any_other(released: list[Any]) -> None:
    clients = [one["splits"]["eval"]["clients"] for one in released]

    assert min(clients) < 0 < max(clients)  # unbiased, hence not clamped
    deviation = np.std(clients) / math.hypot(noise_multiplier(), 12**-0.5)
    assert abs(deviation - 1) < SIGMAS / math.sqrt(2 * len(clients))


def test_splits_have_independent_noise(released: list[Any]) -> None:
    train, evaluation = (
        np.ravel(
            [one["splits"][split]["features"]["word"]["histogram"]["counts"] for one in released]
        ).astype(np.float64)
        for split in ("train", "eval")
    )
    train[::WORDS] -= CLIENTS * LIMIT

    assert abs(np.corrcoef(train, evaluation)[0, 1]) < SIGMAS / math.sqrt(len(train))


def test_mean_of_too_few_examples_is_none_and_of_many_within_its_range(
    released: list[Any],
) -> None:
    noise = noise_multiplier() * LIMIT
    for one in released:
        split = one["splits"]["eval"]
        mean = split["features"]["x"]["mean"]
        assert (mean is None) == (split["examples"] <= noise)
        assert mean is None or 0 <= mean <= 10


def test_system_noise_is_standard_normal_and_independent() -> None:
    count = 400_000
    noise = noised_statistics.secret_normals(count)

    assert abs(noise.mean()) < SIGMAS / math.sqrt(count)
    assert abs(noise.var() - 1) < SIGMAS * math.sqrt(2 / count)
    assert abs((noise**3).mean()) < SIGMAS * math.sqrt(15 / count)
    assert abs((noise**4).mean() - 3) < SIGMAS * math.sqrt(96 / count)
    assert abs((noise[1:] * noise[:-1]).mean()) < SIGMAS / math.sqrt(count)
    assert stats.kstest(noise, "norm").pvalue > 1e-9


@pytest.mark.parametrize(("first", "second"), [(0, 0), (2**64 - 1, 2**64 - 1), (0, 2**64 - 1)])
def test_system_noise_is_finite_for_any_bits(
    first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = np.array([first, second], np.uint64).tobytes()
    monkeypatch.setattr(noised_statistics.secrets, "token_bytes", lambda count: bits)
    (noise,) = noised_statistics.secret_normals(1)

    assert abs(noise) <= 9.5


def test_epsilon_out_of_reach_is_a_config_error() -> None:
    config = make_config(
        dp_statistics={"epsilon": 1e-12, "delta": 1e-15, "max_examples_per_client": 1}
    )
    with pytest.raises(ConfigError, match=r"epsilon=1e-12.* Raise data\.dp_statistics\.epsilon"):
        event(config.dp_statistics, SCHEMA)


def test_endless_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be > 0 and finite"):
        make_config(dp_statistics={"epsilon": math.inf, "delta": 0.1, "max_examples_per_client": 1})


def test_delta_that_allows_publishing_a_client_is_refused() -> None:
    config = DpStatisticsConfig(epsilon=1.0, delta=0.01, max_examples_per_client=1)
    check_delta(config, 99)
    with pytest.raises(PrivacyError, match=r"delta=0\.01 is not below 1 / 100 clients.* Set delta"):
        check_delta(config, 100)
