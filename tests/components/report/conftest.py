"""A full set of facts about one made-up run of the digits example."""

import math
from typing import Any

import pytest

from privet.components.report.page import RunFacts


def spread(mean: float, counts: list[int]) -> dict[str, Any]:
    return {
        "mean": mean,
        "p10": round(mean - 0.12, 3),
        "p50": round(mean + 0.01, 3),
        "p90": 1.0,
        "worst": 0.5,
        "histogram": {"edges": [round(0.05 * edge, 2) for edge in range(21)], "counts": counts},
    }


def model(accuracy: float, loss: float, counts: list[int]) -> dict[str, Any]:
    return {
        "overall": {"loss": loss, "accuracy": accuracy},
        "clients": {
            "accuracy": spread(accuracy, counts),
            "loss": {"mean": loss, "p10": 0.05, "p50": 0.22, "p90": 0.8, "worst": 1.9},
        },
    }


def full_facts(rounds: int = 30) -> dict[str, Any]:
    epsilon = [round(3.99 * math.sqrt((index + 1) / rounds), 4) for index in range(rounds)]
    return {
        "name": "digits",
        "model_name": "digits",
        "statistics": {
            "schema": 1,
            "private": False,
            "splits": {
                "eval": {
                    "clients": 50,
                    "examples": 360,
                    "examples_per_client": {"min": 2, "p50": 7, "max": 18},
                    "labels": {str(label): 30 + 3 * (label % 4) for label in range(10)},
                },
                "train": {
                    "clients": 200,
                    "examples": 1437,
                    "examples_per_client": {"min": 1, "p50": 7, "max": 25},
                    "labels": {str(label): 120 + 17 * (label % 5) for label in range(10)},
                },
            },
        },
        "rejects": {
            "schema": 1,
            "private": False,
            "rows": 1800,
            "refused": 3,
            "reasons": {"wrong_shape": 2, "unknown_label": 1},
            "first": [],
            "corrupt_files": [],
            "empty_clients": 0,
            "clients_in_two_splits": 0,
            "clients_too_small": 4,
        },
        "ledger": {
            "schema": 1,
            "private": True,
            "unit": "client",
            "neighbouring_relation": "add_or_remove_one_client",
            "trust_model": "central: the server sees each client's update and is trusted with it",
            "epsilon": 3.99,
            "target_epsilon": 4.0,
            "delta": 1e-5,
            "accountant": "pld",
            "epsilon_rdp": 4.31,
            "sampling": {
                "kind": "all",
                "probability": 1.0,
                "clients": 200,
                "expected_cohort": 200.0,
                "amplification": False,
            },
            "mechanism": {
                "kind": "gaussian",
                "clip_norm": 0.5,
                "noise_multiplier": 6.12,
                "denominator": 200.0,
                "noise_source": "operating system",
            },
            "rounds": rounds,
            "rounds_planned": rounds,
            "epsilon_by_round": epsilon,
            "event": {
                "kind": "repeated",
                "count": 30,
                "event": {"kind": "gaussian", "noise_multiplier": 6.12},
            },
            "assumptions": [
                "Each person is one client; someone with two devices is counted as two.",
                "The noise is drawn on the server, which follows the protocol.",
                "The population of clients is public.",
            ],
            "not_covered": [
                "The evaluation's exact numbers per client.",
                "The statistics of the data: clients, examples and labels per split.",
                "Choosing settings by looking at several runs.",
            ],
        },
        "history": {
            "schema": 1,
            "metric": "accuracy",
            "rounds": [
                {
                    "round": index + 1,
                    "cohort": 200,
                    "seconds": round(1.1 + 0.07 * (index % 3), 3),
                    "epsilon": epsilon[index],
                    "eval": {
                        "loss": round(2.3 * math.exp(-index / 9) + 0.28, 4),
                        "accuracy": round(
                            0.93 - 0.55 * math.exp(-index / 5) + 0.008 * math.sin(2 * index), 4
                        ),
                    }
                    if index % 2 == 0 or index == rounds - 1
                    else None,
                }
                for index in range(rounds)
            ],
            "eval_private": False,
            "eval_note": "Measured on the eval split inside the trust boundary.",
            "bytes": {
                "down_per_client_round": 2600,
                "up_per_client_round": 2600,
                "down_total": 15_600_000,
                "up_total": 15_600_000,
            },
            "parameters": 650,
            "local_epochs": 1,
            "batch_size": 16,
        },
        "compression": {
            "schema": 2,
            "data_used": "none",
            "variants": [
                {
                    "name": name,
                    "bytes": raw,
                    "bytes_gzip": gzip,
                    "ratio_gzip": 3600 / gzip,
                    "latency_us": {"1": 8.25, "32": 1234.5},
                    "saved_model": {"bytes": 25000, "bytes_gzip": 7000},
                    "not_servable_because": None,
                    "max_weight_error": error,
                }
                for name, raw, gzip, error in (
                    ("float32", 4100, 3600, 0.0),
                    ("float16", 2800, 2100, 0.00012),
                    ("int8_weights", 1900, 1150, 0.0021),
                )
            ],
            "failed": [{"name": "int16", "because": "the converter does not know LSTM"}],
        },
        "selection": {
            "schema": 1,
            "variant": "int8_weights",
            "by": "smallest",
            "within": 0.005,
            "metric": "accuracy",
            "trained": 0.923,
            "variants": [
                {"name": name, "value": value, "passed_over_because": problem}
                for name, value, problem in (
                    ("float32", 0.923, None),
                    ("float16", 0.91, "its accuracy is worse by 0.013, 0.005 is allowed"),
                    ("int8_weights", 0.921, None),
                )
            ],
            "note": "The choice depends on the held-out clients, whom no epsilon covers.",
        },
        "evaluation": {
            "schema": 1,
            "task": "multiclass",
            "metric": "accuracy",
            "higher_is_better": True,
            "split": "eval",
            "clients": 50,
            "examples": 360,
            "models": {
                "float": model(0.923, 0.301, [0] * 10 + [1, 0, 1, 1, 2, 3, 5, 7, 9, 21]),
                "compressed": model(0.921, 0.304, [0] * 10 + [1, 0, 1, 2, 2, 3, 4, 8, 9, 20]),
                "blessed": model(0.904, 0.352, [0] * 9 + [1, 0, 1, 2, 2, 3, 3, 6, 8, 8, 16]),
            },
            "private": False,
            "note": "Releasing these numbers is not covered by epsilon.",
        },
        "verdict": {
            "schema": 1,
            "blessed": True,
            "rules": [
                {
                    "metric": "compressed.accuracy",
                    "kind": "lower_bound",
                    "limit": 0.85,
                    "value": 0.921,
                    "passed": True,
                    "detail": "",
                },
                {
                    "metric": "compressed.accuracy",
                    "kind": "max_worsening",
                    "limit": 0.02,
                    "value": 0.002,
                    "passed": True,
                    "detail": "against float",
                },
                {
                    "metric": "compressed.clients.accuracy.p10",
                    "kind": "lower_bound",
                    "limit": 0.6,
                    "value": 0.801,
                    "passed": True,
                    "detail": "",
                },
            ],
            "baseline": {"version": 2},
        },
        "infra": {
            "schema": 1,
            "blessed": True,
            "checks": [
                {
                    "engine": engine,
                    "api": api,
                    "passed": True,
                    "detail": "largest difference 1.2e-07",
                }
                for engine, api in (
                    ("saved_model", "REST predict"),
                    ("saved_model", "gRPC Predict"),
                    ("tflite", "REST predict"),
                )
            ],
        },
        "pushed": {
            "schema": 1,
            "pushed": True,
            "version": 3,
            "path": "serving/digits/3",
            "detail": "",
        },
    }


def partition(clients: int, labels: list[str], shown: int = 60) -> dict[str, Any]:
    """What ingest writes of clients that it made itself."""
    names = [f"client-{number:04d}" for number in range(min(clients, shown))]
    counts = {
        label: [(7 * column + 3 * row) % 5 * (row + 1) for column in range(len(names))]
        for row, label in enumerate(labels)
    }
    return {"kind": "dirichlet", "clients": clients, "shown": names, "labels": counts}


def partitioned_facts() -> dict[str, Any]:
    """A run on simulated clients."""
    facts = full_facts()
    facts["statistics"]["partition"] = partition(250, [str(label) for label in range(10)])
    return facts


def crowded_facts() -> dict[str, Any]:
    """A long regression run with long names and large numbers: what strains the layout."""
    facts = full_facts(rounds=1000)
    metric = "weighted_mean_absolute_percentage_error"
    facts["name"] = facts["model_name"] = "a-rather-long-name-for-a-pipeline-of-the-northern-region"
    facts["history"]["metric"] = facts["evaluation"]["metric"] = metric
    facts["evaluation"] |= {"task": "regression", "higher_is_better": False}
    for row in facts["history"]["rounds"]:
        if row["eval"]:
            row["eval"][metric] = 123456.7 - 100 * row["round"]
    for evaluated in facts["evaluation"]["models"].values():
        evaluated["overall"][metric] = 23456.7
        large = spread(23456.7, [10_000 * count for count in range(20)])
        large["p10"] = large["p50"] = large["worst"] = 98765.4
        large["histogram"]["edges"] = [5000 * edge for edge in range(21)]
        evaluated["clients"][metric] = large
    for part in ("compression", "selection"):
        for variant in facts[part]["variants"]:
            variant["name"] += "_pruned_to_half_of_all_weights_by_magnitude"
    for variant in facts["compression"]["variants"]:
        variant["bytes"] *= 123_456
    facts["selection"]["variant"] = facts["selection"]["variants"][-1]["name"]
    splits = facts["statistics"]["splits"]
    splits["test"] = dict(splits["eval"])
    for split in splits.values():
        split["clients"] *= 10_000
        split["labels"] = {f"a label with a long name {label}": 1 + label for label in range(60)}
    facts["statistics"]["partition"] = partition(2_500_000, list(splits["train"]["labels"]))
    return facts


def personalized_facts() -> dict[str, Any]:
    facts = full_facts()
    gain = {"mean": 0.03, "p10": -0.01, "p50": 0.0, "p90": 0.25, "worst": -0.5}
    facts["evaluation"]["personalization"] = {
        "settings": {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "momentum": 0.0},
        "clients": 46,
        "too_few_examples": 4,
        "diverged": 1,
        "adaptation_examples": 167,
        "examples": 189,
        "models": {
            "baseline": model(0.912, 0.318, [0] * 20),
            "personalized": model(0.942, 0.251, [0] * 20),
        },
        "gain": {
            "overall": {"accuracy": 0.03, "loss": 0.067},
            "clients": {
                "accuracy": {**gain, "improved": 0.217, "worsened": 0.043},
                "loss": {**gain, "improved": 0.761, "worsened": 0.217},
            },
        },
    }
    return facts


def rejected_facts() -> dict[str, Any]:
    facts = full_facts()
    rule = {
        "metric": "compressed.accuracy",
        "kind": "lower_bound",
        "limit": 0.95,
        "value": 0.921,
        "passed": False,
        "detail": "0.921 is below 0.95",
    }
    facts["verdict"] = {"schema": 1, "blessed": False, "rules": [rule], "baseline": None}
    facts["pushed"] = {
        "schema": 1,
        "pushed": False,
        "version": None,
        "path": None,
        "detail": "not blessed: compressed.accuracy",
    }
    return facts


def open_facts() -> dict[str, Any]:
    """A run without differential privacy."""
    facts = full_facts()
    facts["ledger"] = {
        "schema": 1,
        "private": False,
        "not_private_because": "No noise was added: the configuration sets privacy to none.",
        "epsilon": None,
        "delta": None,
        "epsilon_by_round": [],
        "mechanism": {"kind": "none"},
        "sampling": facts["ledger"]["sampling"],
        "rounds": 30,
        "not_covered": ["Everything: this run gives no guarantee."],
    }
    return facts


@pytest.fixture
def facts() -> dict[str, Any]:
    """A pushed, private run as plain keyword arguments of RunFacts: tests change what they need."""
    return full_facts()


@pytest.fixture
def private_run() -> RunFacts:
    return RunFacts(**full_facts())


@pytest.fixture
def partitioned_run() -> RunFacts:
    return RunFacts(**partitioned_facts())


@pytest.fixture
def personalized_run() -> RunFacts:
    return RunFacts(**personalized_facts())


@pytest.fixture
def crowded_run() -> RunFacts:
    return RunFacts(**crowded_facts())


@pytest.fixture
def rejected_run() -> RunFacts:
    return RunFacts(**rejected_facts())


@pytest.fixture
def run_without_privacy() -> RunFacts:
    return RunFacts(**open_facts())
