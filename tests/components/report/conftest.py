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


def complete_facts() -> dict[str, Any]:
    """A run with all that there is to show: audit, second schema of evaluation, ML Metadata."""
    facts = full_facts(rounds=12)
    for row in facts["history"]["rounds"]:
        row["cohort"] = 190 + 7 * row["round"] % 23
        row["sparsity"] = round(min(0.8, 0.04 * row["round"]), 3)
    evaluation = facts["evaluation"]
    evaluation |= {
        "schema": 2,
        "confidence": 0.95,
        "metrics": {
            name: {"higher_is_better": name not in ("loss", "calibration_error", "perplexity")}
            for name in ("accuracy", "loss", "f1", "auc", "perplexity", "calibration_error")
        },
        "release": {
            "mechanism": {"epsilon": 1.0, "delta": 1e-6},
            "note": "About the clients of the eval split.",
        },
    }
    for shift, evaluated in enumerate(evaluation["models"].values()):
        evaluated["overall"] |= {
            "f1": 0.92 - 0.01 * shift,
            "auc": 0.991,
            "perplexity": 1.35,
            "calibration_error": 0.031,
        }
        evaluated["intervals"] = {
            name: [round(0.97 * value, 4), round(1.02 * value, 4)]
            for name, value in evaluated["overall"].items()
        } | {"auc": None}
        for one in evaluated["clients"].values():
            one |= {
                "p25": one["p10"] + 0.05,
                "p75": 1.0,
                "worst_decile": 0.612,
                "mean_interval": [0.9 * one["mean"], 1.1 * one["mean"]],
                "clients": 50,
            }
        evaluated["confusion"] = {
            "labels": [str(label) for label in range(10)],
            "counts": [
                [33 if row == column else (row * column) % 4 // 2 for column in range(10)]
                for row in range(10)
            ],
        }
        evaluated["calibration"] = {
            "edges": [round(0.1 * edge, 1) for edge in range(11)],
            "confidence": [None, None, *(0.25 + 0.1 * index for index in range(8))],
            "accuracy": [None, None, *(0.18 + 0.1 * index + 0.01 * shift for index in range(8))],
            "counts": [0, 0, 4, 7, 12, 20, 31, 48, 80, 158],
        }
        evaluated["slices"] = {
            "label": {
                str(label): {
                    "clients": 40 + label,
                    "examples": 36,
                    "overall": {"accuracy": 0.98 - 0.02 * label - 0.003 * shift},
                    "intervals": {"accuracy": [0.94 - 0.02 * label, 1.0 - 0.015 * label]},
                }
                for label in range(10)
            },
            "client_examples": {
                "under 5": {
                    "clients": 11,
                    "examples": 40,
                    "overall": {"accuracy": 0.871},
                    "intervals": {"accuracy": None},
                }
            },
        }
    rates = [index / 50 for index in range(51)]
    facts["audit"] = {
        "schema": 1,
        "private": False,
        "note": "The membership attack sees exact losses. Releasing it is not covered by epsilon.",
        "confidence": 0.95,
        "membership": {
            "attack": "loss_threshold",
            "unit": "client",
            "members": 200,
            "non_members": 50,
            "auc": 0.537,
            "auc_interval": [0.461, 0.611],
            "advantage": 0.094,
            "advantage_interval": [0.041, 0.207],
            "advantage_by_chance": 0.052,
            "tpr": 0.021,
            "tpr_interval": [0.0, 0.052],
            "fpr": 0.01,
            "roc": {"fpr": rates, "tpr": [rate**0.9 for rate in rates]},
        },
        "canaries": {
            "count": 96,
            "included": 47,
            "statistic": "all_iterates",
            "auc": 0.58,
            "auc_interval": [0.46, 0.69],
            "epsilon_estimate": 0.61,
            "final": {"auc": 0.52, "epsilon_estimate": None},
            "lower_bound": {
                "epsilon": 0.0,
                "ceiling": 2.71,
                "confidence": 0.95,
                "guesses": 48,
                "correct": 27,
                "delta": 1e-5,
                "source": "Steinke, Nasr and Jagielski (2023)",
            },
            "histogram": {
                "edges": [round(-0.3 + 0.05 * edge, 2) for edge in range(13)],
                "included": [0, 0, 1, 2, 4, 6, 9, 10, 8, 4, 2, 1],
                "excluded": [1, 3, 6, 9, 11, 8, 6, 3, 2, 0, 0, 0],
            },
            "overhead": 0.034,
        },
        "ledger": {"private": True, "epsilon": 3.99, "delta": 1e-5},
    }
    graph = {
        "ClientExampleGen": (),
        "FederatedTrainer": ("ClientExampleGen",),
        "ModelCompressor": ("FederatedTrainer", "ClientExampleGen"),
        "PrivacyAuditor": ("FederatedTrainer", "ClientExampleGen"),
        "FederatedEvaluator": ("ModelCompressor", "FederatedTrainer", "ClientExampleGen"),
        "VariantSelector": ("FederatedEvaluator", "ModelCompressor"),
        "ModelValidator": ("VariantSelector", "FederatedEvaluator", "PrivacyAuditor"),
        "InfraValidator": ("VariantSelector", "ClientExampleGen"),
        "Pusher": ("ModelValidator", "InfraValidator", "VariantSelector"),
        "RunReporter": ("Pusher", "FederatedEvaluator", "ClientExampleGen", "PrivacyAuditor"),
    }
    facts["run"] = {
        "started": "2026-03-07T14:05:09.123456+00:00",
        "status": "succeeded",
        "error": None,
        "nodes": [
            {
                "name": name,
                "state": "complete",
                "seconds": 0.2 + 3.7 * index,
                "cached": name == "ClientExampleGen",
                "inputs": list(inputs),
            }
            for index, (name, inputs) in enumerate(graph.items())
        ],
        "lineage": [
            {
                "what": what,
                "type": kind,
                "id": number,
                "node": node,
                "path": f"artifacts/{node}/{what}/{number}",
            }
            for what, kind, node, number in (
                ("pushed", "PushedModel", "Pusher", 19),
                ("servable", "ServableModel", "VariantSelector", 15),
                ("model", "FederatedModel", "FederatedTrainer", 3),
                ("examples", "ClientExamples", "ClientExampleGen", 1),
            )
        ],
        "config": "pipeline: digits\nseed: 7\ntrain:\n  rounds: 30\n",
        "versions": {"privet": "0.7.0", "python": "3.11.2", "tensorflow": "2.14.1"},
        "commands": {
            "run": "privet run runs/digits/config.yaml --workdir runs/digits",
            "serve": "privet serve --model_name digits --model_base_path serving/digits",
            "report": "privet report runs/digits",
            "tensorboard": "tensorboard --logdir runs/digits/artifacts/FederatedTrainer/history/5",
        },
    }
    facts["worst_clients"] = [
        {
            "client_id": f"{number:02d}5f2c9a7be1d04838c1f6a2b7d09e44",
            "examples": 3 + number,
            "float": 0.5 + 0.02 * number,
            "compressed": 0.48 + 0.02 * number,
        }
        for number in range(10)
    ]
    return facts


def failed_facts() -> dict[str, Any]:
    """A run whose trainer failed, so that the nodes below it never started."""
    facts = complete_facts()
    for step in ("ledger", "history", "compression", "evaluation", "selection", "verdict"):
        facts[step] = None
    facts |= {"infra": None, "pushed": None, "audit": None, "worst_clients": None}
    _, trainer, *later = facts["run"]["nodes"]
    trainer["state"] = "failed"
    for node in later:
        node |= {"state": "missing", "seconds": 0.0}
    facts["run"] |= {"status": "failed", "error": "clip_norm must be above 0", "lineage": []}
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
def complete_run() -> RunFacts:
    return RunFacts(**complete_facts())


@pytest.fixture
def failed_run() -> RunFacts:
    return RunFacts(**failed_facts())


@pytest.fixture
def rejected_run() -> RunFacts:
    return RunFacts(**rejected_facts())


@pytest.fixture
def run_without_privacy() -> RunFacts:
    return RunFacts(**open_facts())
