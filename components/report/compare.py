"""Two runs side by side, number by number, with what may be said of their difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privet.components.report.page import RunFacts
from privet.components.report.paired import Evaluated, Paired, describe, pair_clients

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
      label: what it is called.
      facts: of its report.
      config: its configuration as plain values; None if an earlier version of Privet ran.
      folders: name of an artifact, as in run.json -> its folder.
    """

    label: str
    facts: RunFacts
    config: Facts | None
    folders: Mapping[str, str]


def compare(first: Side, second: Side) -> dict[str, Any]:
    """All differences that matter; `values` are always [first, second], None where not known.

    Nothing is called better that is not comparable: a smaller epsilon only under the same unit,
    relation, trust model and delta; a metric only where the two intervals do not meet.

    Returns:
      The object that docs/pipeline.md describes.
    """
    paired = _pair(first, second)
    known = first.config is not None and second.config is not None
    versions = [(side.facts.run or {}).get("versions", {}) for side in (first, second)]
    return {
        "schema": 1,
        "private": False,
        "runs": [_run(side) for side in (first, second)],
        "privacy": compare_privacy(first.facts.ledger, second.facts.ledger),
        "quality": _quality(first, second, paired),
        "clients": _clients(first, paired),
        "numbers": _numbers(first, second),
        "gate": _gate(first, second),
        "audit": _audit(first, second),
        "config": config_differences(first.config or {}, second.config or {}) if known else None,
        "versions": config_differences(*versions),
    }


_CLAIM = (
    "private",
    "epsilon",
    "delta",
    "unit",
    "neighbouring_relation",
    "trust_model",
    "rounds",
)

_ALIKE = {
    "unit": "the units that they protect",
    "neighbouring_relation": "the neighbouring relations",
    "trust_model": "the trust models",
    "delta": "the deltas",
}
"""What two guarantees must share for their epsilons to be of the same kind."""


def compare_privacy(first: Facts | None, second: Facts | None) -> dict[str, Any]:
    """Two ledgers: what each claims, and whether one claims more.

    Returns:
      `claims` of both; whether they are `comparable`; `stronger`: 0 or 1 for the run that promises
      more, None if neither or if that cannot be said; `because`, in words.
    """
    ledgers = (first, second)
    claims = [{key: (ledger or {}).get(key) for key in _CLAIM} for ledger in ledgers]
    comparable, stronger, because = _judge_privacy(*ledgers)
    return {
        "claims": claims,
        "comparable": comparable,
        "stronger": stronger,
        "because": because,
    }


def _judge_privacy(first: Facts | None, second: Facts | None) -> tuple[bool, int | None, str]:
    if first is None or second is None:
        return False, None, "Not comparable: a run without a privacy ledger claims nothing yet."
    private = [ledger.get("private") is True for ledger in (first, second)]
    if not any(private):
        return True, None, "Neither run gives a guarantee."
    if not all(private):
        holder = private.index(True)
        return False, holder, "Only one of the two gives a guarantee at all."
    differ = [words for key, words in _ALIKE.items() if first.get(key) != second.get(key)]
    if differ:
        hint = (
            " To state both at one delta: privet plan --ledger WORKDIR --delta DELTA."
            if differ == [_ALIKE["delta"]]
            else ""
        )
        named = " and ".join(differ)
        return False, None, f"Not comparable: {named} differ, so neither epsilon is better.{hint}"
    spent = (first["epsilon"], second["epsilon"])
    if spent[0] == spent[1]:
        return True, None, "Both give the same guarantee."
    words = "Same unit, relation, trust model and delta: the smaller epsilon promises more."
    return True, int(spent[1] < spent[0]), words


def _run(side: Side) -> dict[str, Any]:
    run = side.facts.run or {}
    return {
        "label": side.label,
        "name": side.facts.name,
        "model_name": side.facts.model_name,
        "status": run.get("status"),
        "started": run.get("started"),
        "variant": (side.facts.selection or {}).get("variant"),
    }


def _pair(first: Side, second: Side) -> Paired | None:
    """The clients of both; None if a run has not evaluated, or measured another metric."""
    sides = (first, second)
    metrics = {(side.facts.evaluation or {}).get("metric") for side in sides}
    selected = all(side.facts.selection for side in sides)
    if None in metrics or len(metrics) > 1 or not selected:
        return None
    return pair_clients(_evaluated(first), _evaluated(second))


def _evaluated(side: Side) -> Evaluated:
    evaluation, selection = side.facts.evaluation or {}, side.facts.selection or {}
    partition = ((side.config or {}).get("data") or {}).get("partition") or {}
    return Evaluated(
        side.folders["evaluation"],
        side.folders["examples"],
        evaluation["split"],
        f"{selection['variant']}.{evaluation['metric']}",
        partition.get("kind", "by_feature") != "by_feature",
    )


_SAME = {
    True: "Both were evaluated on the same examples of the same clients.",
    False: "They were evaluated on other clients or other examples: what differs may come from "
    "those as well as from the models.",
    None: "Whether both were evaluated on the same examples is not known: a client store is gone, "
    "or a run has not evaluated. What differs may come from the clients too.",
}


def _quality(first: Side, second: Side, paired: Paired | None) -> dict[str, Any]:
    evaluations = [side.facts.evaluation or {} for side in (first, second)]
    same = paired.same_examples if paired else None
    return {
        "metric": evaluations[1].get("metric") or evaluations[0].get("metric"),
        "clients": [one.get("clients") for one in evaluations],
        "examples": [one.get("examples") for one in evaluations],
        "confidence": evaluations[0].get("confidence") or evaluations[1].get("confidence"),
        "same_examples": same,
        "note": _SAME[same],
        "models": [
            row
            for model in ("float", "compressed")
            for row in _metric_rows(model, evaluations[0], evaluations[1])
        ],
    }


def _metric_rows(model: str, first: Facts, second: Facts) -> list[dict[str, Any]]:
    models = [one.get("models", {}).get(model, {}) for one in (first, second)]
    overall = [one.get("overall", {}) for one in models]
    rows = []
    for metric in [name for name in overall[0] if name in overall[1]]:
        values = [one[metric] for one in overall]
        intervals = [(one.get("intervals") or {}).get(metric) for one in models]
        higher = higher_is_better(first, metric)
        rows.append(
            {
                "model": model,
                "metric": metric,
                "higher_is_better": higher,
                "values": values,
                "intervals": intervals,
                "worst_decile": [
                    ((one.get("clients") or {}).get(metric) or {}).get("worst_decile")
                    for one in models
                ],
                **_verdict(values, intervals, higher),
            }
        )
    return rows


def higher_is_better(evaluation: Facts, metric: str) -> bool:
    """Whether more of a metric is an improvement; an evaluation of schema 1 knows of one only."""
    known = (evaluation.get("metrics") or {}).get(metric)
    if known is not None:
        return bool(known["higher_is_better"])
    return metric == evaluation.get("metric") and bool(evaluation.get("higher_is_better"))


def separate(intervals: Sequence[Sequence[float] | None]) -> bool | None:
    """Whether two intervals do not meet; None if one is not known.

    >>> separate([[0.1, 0.2], [0.3, 0.4]]), separate([[0.1, 0.3], [0.2, 0.4]])
    (True, False)
    >>> separate([None, [0.3, 0.4]])
    """
    first, second = intervals
    if first is None or second is None:
        return None
    return first[1] < second[0] or second[1] < first[0]


def _verdict(values: Sequence[Any], intervals: Sequence[Any], higher: bool) -> dict[str, Any]:
    """Whether the intervals separate, and which run is better if so."""
    apart = separate(intervals)
    return {
        "separate": apart,
        "better": int((values[1] > values[0]) == higher) if apart else None,
    }


def _clients(first: Side, paired: Paired | None) -> dict[str, Any] | None:
    """The served models on the clients that both runs evaluated."""
    if paired is None or paired.by is None:
        return None
    evaluation = first.facts.evaluation or {}
    metric = evaluation["metric"]
    higher = higher_is_better(evaluation, metric)
    return {"metric": metric, "higher_is_better": higher, **describe(paired, higher)}


def _numbers(first: Side, second: Side) -> list[dict[str, Any]]:
    """Sizes, times, bytes on the way and rounds."""
    found = [_measured(side.facts) for side in (first, second)]
    return [
        {
            "name": name,
            "unit": unit,
            "values": [one.get(name) for one in found],
            "ratio": _ratio(found[0].get(name), found[1].get(name)),
        }
        for name, unit in _UNITS.items()
        if any(one.get(name) is not None for one in found)
    ]


_UNITS = {
    "served model, gzipped": "bytes",
    "served model": "bytes",
    "float model, gzipped": "bytes",
    "one example": "microseconds",
    "32 examples": "microseconds",
    "down per client and round": "bytes",
    "up per client and round": "bytes",
    "down in all": "bytes",
    "up in all": "bytes",
    "rounds": "",
    "local epochs": "",
    "training clients": "",
    "expected cohort": "",
    "parameters": "",
}
"""Number -> its unit."""


def _measured(facts: RunFacts) -> dict[str, Any]:
    variants = {one["name"]: one for one in (facts.compression or {}).get("variants", ())}
    served = variants.get((facts.selection or {}).get("variant"), {})
    latency = served.get("latency_us") or {}
    history, ledger = facts.history or {}, facts.ledger or {}
    traffic = history.get("bytes") or {}
    splits = (facts.statistics or {}).get("splits") or {}
    return {
        "served model, gzipped": served.get("bytes_gzip"),
        "served model": served.get("bytes"),
        "float model, gzipped": variants.get("float32", {}).get("bytes_gzip"),
        "one example": latency.get("1"),
        "32 examples": latency.get("32"),
        "down per client and round": traffic.get("down_per_client_round"),
        "up per client and round": traffic.get("up_per_client_round"),
        "down in all": traffic.get("down_total"),
        "up in all": traffic.get("up_total"),
        "rounds": ledger.get("rounds"),
        "local epochs": history.get("local_epochs"),
        "training clients": splits.get("train", {}).get("clients"),
        "expected cohort": (ledger.get("sampling") or {}).get("expected_cohort"),
        "parameters": history.get("parameters"),
    }


def _ratio(first: float | None, second: float | None) -> float | None:
    return second / first if first and second is not None else None


def _gate(first: Side, second: Side) -> dict[str, Any]:
    """Verdicts, and every rule that one of them had."""
    facts = (first.facts, second.facts)
    rules = [
        {
            (rule["metric"], rule["kind"], rule.get("than")): rule
            for rule in (one.verdict or {}).get("rules", ())
        }
        for one in facts
    ]
    return {
        "blessed": [(one.verdict or {}).get("blessed") for one in facts],
        "infra_blessed": [(one.infra or {}).get("blessed") for one in facts],
        "pushed": [(one.pushed or {}).get("pushed") for one in facts],
        "rules": [
            {
                "metric": key[0],
                "kind": key[1],
                "than": key[2],
                "limits": [one.get(key, {}).get("limit") for one in rules],
                "values": [one.get(key, {}).get("value") for one in rules],
                "passed": [one.get(key, {}).get("passed") for one in rules],
            }
            for key in dict.fromkeys([*rules[0], *rules[1]])
        ],
    }


_ATTACKS = (
    ("membership", "auc"),
    ("membership", "advantage"),
    ("membership", "tpr"),
    ("canaries", "auc"),
    ("canaries", "epsilon_estimate"),
)


def _audit(first: Side, second: Side) -> list[dict[str, Any]]:
    """What attacks found: more is worse, and the less says little: an audit proves nothing."""
    audits = [side.facts.audit or {} for side in (first, second)]
    rows = []
    for part, name in _ATTACKS:
        found = [one.get(part) or {} for one in audits]
        values = [one.get(name) for one in found]
        intervals = [one.get(f"{name}_interval") for one in found]
        if values != [None, None]:
            rows.append(
                {
                    "name": f"{part}.{name}",
                    "values": values,
                    "intervals": intervals,
                    "separate": separate(intervals),
                }
            )
    bounds = [(one.get("canaries") or {}).get("lower_bound") or {} for one in audits]
    if any(bounds):
        values = [one.get("epsilon") for one in bounds]
        name = "canaries.lower_bound.epsilon"
        rows.append({"name": name, "values": values, "intervals": [None] * 2, "separate": None})
    return rows


def config_differences(first: Facts, second: Facts, prefix: str = "") -> list[dict[str, Any]]:
    """The keys whose values differ, in the order of the first configuration.

    >>> config_differences({"train": {"rounds": 5, "seed": 1}}, {"train": {"rounds": 9, "seed": 1}})
    [{'key': 'train.rounds', 'values': [5, 9]}]
    """
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys([*first, *second]):
        values = [first.get(key), second.get(key)]
        if all(isinstance(one, Mapping) for one in values):
            rows += config_differences(first[key], second[key], f"{prefix}{key}.")
        elif values[0] != values[1]:
            rows.append({"key": f"{prefix}{key}", "values": values})
    return rows
