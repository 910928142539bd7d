"""The card that goes with a served model."""

from typing import Any

import pytest

from privet.components.select.config import CardConfig
from privet.components.select.model_card import model_card
from privet.components.shared.schema import Schema

SCHEMA = Schema.from_mapping(
    {
        "client_id": "client",
        "features": {"pixels": {"columns": ["p_0", "p_1"]}},
        "label": {"column": "digit", "classes": 10},
    }
)
CLIENTS = dict.fromkeys(("mean", "p10", "p50", "p90", "worst"), 0.75)
LEDGER = {
    "private": True,
    "epsilon": 3.99981,
    "delta": 1e-5,
    "neighbouring_relation": "add_or_remove_one_client",
    "rounds": 30,
    "assumptions": ["The aggregator is trusted."],
    "not_covered": ["Evaluation on the eval clients."],
}


def model(accuracy: float) -> dict[str, Any]:
    return {"overall": {"accuracy": accuracy}, "clients": {"accuracy": CLIENTS}}


def card(config: CardConfig | None = None, ledger: Any = LEDGER, data_used: str = "none") -> str:
    variant = {"bytes": 3000, "data_used": data_used}
    names = {"float32": (2000, 1.0), "int8_weights": (1000, 2.0), "k2": (500, 4.0)}
    return model_card(
        "digits",
        config or CardConfig(),
        schema=SCHEMA,
        ledger=ledger,
        report={
            "variants": [
                {
                    **variant,
                    "name": name,
                    "bytes_gzip": size,
                    "ratio_gzip": ratio,
                    "does": {"quantization": name},
                }
                for name, (size, ratio) in names.items()
            ]
        },
        evaluation={
            "clients": 50,
            "examples": 360,
            "models": {"float": model(0.9), **dict.fromkeys(names, model(0.8912))},
        },
        selection={
            "variant": "int8_weights",
            "metric": "accuracy",
            "variants": [
                {"name": name, "value": 0.8912, "passed_over_because": problem}
                for name, problem in zip(names, (None, None, "its accuracy is worse"), strict=True)
            ],
        },
    )


def test_card_states_use_data_privacy_quality_and_size() -> None:
    text = card(CardConfig(intended_use="Reading digits.", data="Pupils of ten schools."))
    for line in (
        "# digits: model card",
        "Reading digits.",
        "Pupils of ten schools.",
        "- Input: `pixels` (float32 [2]).",
        "- Output: `scores` of the signature `serving_default`, one score for each of 10 classes.",
        "Differentially private: epsilon 4 at delta 1e-05, per client (add or remove one), over 30 "
        "rounds. What was done to the model afterwards saw no data of these clients, so the same "
        "holds for it.",
        "- The aggregator is trusted.",
        "- Evaluation on the eval clients.",
        "| accuracy | 0.9000 | 0.8912 |",
        "| `int8_weights` | 3,000 | 1,000 | 2.00 | 0.8912 | this model |",
        "| `k2` | 3,000 | 500 | 4.00 | 0.8912 | its accuracy is worse |",
    ):
        assert line in text.splitlines(), line
    assert "Not intended for" not in text
    assert "0.75" not in text  # of single clients nothing leaves with the model
    assert "card.intended_use" not in text


def test_what_its_makers_left_out_is_said() -> None:
    text = card()
    for field in ("intended_use", "data", "limitations"):
        assert f"(`card.{field}`)" in text


def test_a_model_without_privacy_says_so_and_claims_nothing() -> None:
    text = card(ledger={**LEDGER, "private": False})
    assert "NOT PRIVATE" in text
    assert "epsilon 4" not in text
    assert "rests on" not in text


@pytest.mark.parametrize(
    ("data_used", "said"),
    [
        ("none", "Made small without any data."),
        ("synthetic", "Made small with synthetic inputs alone"),
        ("public", "Made small with public data."),
        ("clients", "by looking at the data of clients"),
    ],
)
def test_card_says_what_it_was_made_small_with(data_used: str, said: str) -> None:
    assert said in card(data_used=data_used)
