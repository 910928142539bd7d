"""model_card.md: what goes with a model that is served, for those who will use it."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from privet.components.select.config import CardConfig
from privet.components.shared import guarantee
from privet.components.shared.schema import Schema
from privet.components.shared.served import COMPRESSED, served_view


def model_card(
    name: str,
    card: CardConfig,
    *,
    schema: Schema,
    ledger: Mapping[str, Any],
    report: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    selection: Mapping[str, Any],
) -> str:
    """The card as Markdown; the same facts give the same text, so it holds no measured times.

    Args:
      name: that is served.
      card: what its makers say.
      schema: of one example.
      ledger: content of privacy_ledger.json.
      report: content of compression_report.json.
      evaluation: content of evaluation.json.
      selection: content of selection.json.
    """
    environment = Environment(
        loader=PackageLoader("privet.components.select", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    choices = {row["name"]: row for row in selection["variants"]}
    served = next(v for v in report["variants"] if v["name"] == selection["variant"])
    models = served_view(evaluation, selection)["models"]
    return environment.get_template("model_card.md.jinja").render(
        name=name,
        card=card,
        task=schema.task,
        features=[
            {"name": name, "dtype": feature.dtype, "shape": list(feature.example_shape)}
            for name, feature in schema.features.items()
        ],
        output="prediction" if schema.task == "regression" else "scores",
        classes=schema.label.classes,
        data_used=served["data_used"],
        ledger=ledger,
        privacy=guarantee.statement(ledger),
        evaluation=evaluation,
        metrics=_metrics(models["float"], models[COMPRESSED]),
        selection=selection,
        variant=served,
        does=", ".join(f"{key} {value}" for key, value in served["does"].items()),
        variants=[_row(one, choices[one["name"]], served["name"]) for one in report["variants"]],
    )


def _metrics(trained: Mapping[str, Any], served: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every metric over all examples; nothing of single clients, since the card goes far."""
    return [
        {"name": metric, "trained": f"{value:.4f}", "served": f"{served['overall'][metric]:.4f}"}
        for metric, value in trained["overall"].items()
        if value is not None and served["overall"][metric] is not None
    ]


def _row(variant: Mapping[str, Any], choice: Mapping[str, Any], served: str) -> dict[str, Any]:
    note = "this model" if variant["name"] == served else choice["passed_over_because"] or ""
    return {
        "name": variant["name"],
        "bytes": f"{variant['bytes']:,}",
        "bytes_gzip": f"{variant['bytes_gzip']:,}",
        "ratio_gzip": f"{variant['ratio_gzip']:.2f}",
        "value": f"{choice['value']:.4f}",
        "note": note,
    }
