"""Which variant is served: the smallest or fastest of those that are good enough."""

from collections.abc import Mapping
from typing import Any

from privet.components.select.config import SelectConfig
from privet.components.shared.errors import ModelError

_SLACK = 1e-5
"""Of the metric: what two engines' rounding may make of the same weights counts as no loss.

Of a regression on large numbers it can exceed any limit, and nothing would be left to serve.
"""

_ORDER = {"smallest": "bytes_gzip", "fastest": "latency_us"}


def choose(
    config: SelectConfig, evaluation: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, Any]:
    """Sets the variants side by side and picks one.

    Args:
      config: the rule.
      evaluation: content of evaluation.json, with a model of each variant's name.
      report: content of compression_report.json.

    Returns:
      The content of selection.json.

    Raises:
      ModelError: no variant can be served, or the one that is named cannot be.
    """
    metric, higher = evaluation["metric"], evaluation["higher_is_better"]
    trained = evaluation["models"]["float"]["overall"][metric]
    rows = []
    for variant in report["variants"]:
        value = evaluation["models"][variant["name"]]["overall"][metric]
        loss = trained - value if higher else value - trained
        problem = variant["not_servable_because"]
        limit = config.within + _SLACK * abs(trained)
        if problem is None and not loss <= limit:  # also where it is not a number
            problem = f"its {metric} is worse by {loss:.4g}, {config.within:g} is allowed"
        rows.append(
            {
                "name": variant["name"],
                "value": value,
                "loss": loss,
                "bytes_gzip": variant["bytes_gzip"],
                "latency_us": variant["latency_us"]["1"],
                "servable": variant["not_servable_because"] is None,
                "passed_over_because": problem,
            }
        )
    failed = {one["name"]: one["because"] for one in report["failed"]}
    if config.variant in failed:
        raise ModelError(
            f"select.variant={config.variant} could not be built: {failed[config.variant]}"
        )
    chosen = _named(config.variant, rows) if config.variant is not None else _best(config, rows)
    return {
        "schema": 1,
        "variant": chosen["name"],
        "by": "name" if config.variant is not None else config.by,
        "within": config.within,
        "metric": metric,
        "trained": trained,
        "variants": rows,
        "failed": report["failed"],
        "private": False,
        "note": "The choice, and the figures it goes by, depend on the held-out clients, whom no "
        "epsilon covers. It tells which of the variants did well on them, and nothing of the "
        "clients that were trained on beyond the model itself.",
    }


def _named(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    for row in rows:
        if row["name"] == name and row["servable"]:
            return row
        if row["name"] == name:
            raise ModelError(
                f"select.variant={name} cannot be served: {row['passed_over_because']}. Choose "
                f"another of {', '.join(_servable(rows))}."
            )
    raise ModelError(f"select.variant={name} is none of {', '.join(row['name'] for row in rows)}.")


def _best(config: SelectConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    good = [row for row in rows if row["passed_over_because"] is None]
    if not good:
        raise ModelError(
            "no variant is good enough to be served: "
            + "; ".join(f"{row['name']}: {row['passed_over_because']}" for row in rows)
            + ". Raise select.within, or name one with select.variant."
        )
    return min(good, key=lambda row: (row[_ORDER[config.by]], row["bytes_gzip"], row["name"]))


def _servable(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows if row["servable"]]
