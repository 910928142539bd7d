"""Reading the findings of a run's steps out of their artifacts."""

from collections.abc import Mapping
from typing import Any

from privet.components.report.page import RunFacts
from privet.components.shared import files, layout
from privet.components.shared.served import served_view

_FILES = {  # field of RunFacts -> (input of RunReporter, the artifact's file)
    "statistics": ("examples", layout.STATISTICS),
    "rejects": ("examples", layout.REJECTS),
    "ledger": ("ledger", layout.LEDGER),
    "history": ("history", layout.HISTORY),
    "compression": ("compression", layout.COMPRESSION),
    "evaluation": ("evaluation", layout.EVALUATION),
    "audit": ("audit", layout.AUDIT),
    "selection": ("selection", layout.SELECTION),
    "verdict": ("blessing", layout.BLESSING),
    "infra": ("infra_blessing", layout.INFRA_BLESSING),
    "pushed": ("pushed", layout.PUSHED),
}


def read_facts(name: str, model_name: str, folders: Mapping[str, str]) -> RunFacts:
    """The findings of the steps that have run.

    Args:
      name: of the pipeline.
      model_name: the name that is served.
      folders: input of RunReporter -> the artifact's folder; a missing one has not run.
    """
    facts: dict[str, Any] = {
        field: files.read_json(files.join(folders[key], file))
        for field, (key, file) in _FILES.items()
        if key in folders
    }
    if "evaluation" in facts and "selection" in facts:
        facts["evaluation"] = served_view(facts["evaluation"], facts["selection"])
    return RunFacts(name=name, model_name=model_name, **facts)
