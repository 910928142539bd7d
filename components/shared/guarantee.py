"""What a privacy ledger promises, in words."""

import math
from collections.abc import Mapping
from typing import Any

RELATIONS = {
    "add_or_remove_one_client": "per client (add or remove one)",
    "zero_out_one_client": "per client (with its data, or without)",
    "replace_one_client": "per client (its data, or other data), towards the server too",
    "zero_out_one_example": "PER EXAMPLE, not per client (with it, or without)",
}
"""neighbouring_relation in a ledger -> words."""


def rounded_up(epsilon: float) -> str:
    """An epsilon to show: never less than was spent."""
    return f"{math.ceil(epsilon * 1000) / 1000:g}"


def statement(ledger: Mapping[str, Any]) -> str:
    """The guarantee of a run, or that there is none.

    Args:
      ledger: content of privacy_ledger.json.
    """
    if not ledger["private"]:
        return (
            "NOT PRIVATE. This model has no differential privacy guarantee and may reveal what "
            "single clients hold."
        )
    return (
        f"Differentially private: epsilon {rounded_up(ledger['epsilon'])} at delta "
        f"{ledger['delta']:g}, {RELATIONS[ledger['neighbouring_relation']]}, over "
        f"{ledger['rounds']} rounds. What was done to the model afterwards saw no data of these "
        "clients, so the same holds for it."
    )
