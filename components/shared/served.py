"""An evaluation of all variants as seen by those who ask for the one that is served."""

from collections.abc import Mapping
from typing import Any

COMPRESSED = "compressed"
"""The served variant's name in the gate's rules, the report and run.json."""


def served_view(evaluation: Mapping[str, Any], selection: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation with the served variant as `compressed`, without the others.

    Args:
      evaluation: content of evaluation.json.
      selection: content of selection.json.
    """
    models = evaluation["models"]
    kept = {name: models[name] for name in ("float", "blessed") if name in models}
    return {**evaluation, "models": {**kept, COMPRESSED: models[selection["variant"]]}}
