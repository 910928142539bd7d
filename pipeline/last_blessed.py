"""Finds the last blessed model in ML Metadata: what a candidate is compared with."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.common import resolver
from tfx.types.artifact import Artifact

CANDIDATE, SERVABLES = "candidate", "servables"
BLESSINGS, INFRA_BLESSINGS = "blessings", "infra_blessings"


class LastBlessedStrategy(resolver.ResolverStrategy):
    """The newest servable that the gate and the server trial blessed, not the candidate itself.

    Leaving the candidate out keeps a repeated run fully cached: once its own model is blessed,
    the run must still see the same baseline as before.
    """

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Returns the baseline (or nothing) under SERVABLES; TFX wants every key back."""
        del store
        candidates = {artifact.id for artifact in input_dict[CANDIDATE]}
        served = {_servable_id(b) for b in input_dict[INFRA_BLESSINGS] if b.blessed == 1}
        servables = {artifact.id: artifact for artifact in input_dict[SERVABLES]}
        blessed = [
            servable_id
            for blessing in sorted(input_dict[BLESSINGS], key=lambda artifact: artifact.id)
            if blessing.blessed == 1
            and (servable_id := _servable_id(blessing)) in servables
            and servable_id in served
            and servable_id not in candidates
            and _exists(servables[servable_id].uri)
        ]
        baseline = [servables[blessed[-1]]] if blessed else []
        nothing: dict[str, list[Artifact]] = {BLESSINGS: [], INFRA_BLESSINGS: []}
        return {CANDIDATE: input_dict[CANDIDATE], SERVABLES: baseline, **nothing}


def _servable_id(blessing: Artifact) -> int:
    """The model that a verdict is about."""
    return blessing.get_int_custom_property("servable_id")


def _exists(uri: str) -> bool:
    """Whether an artifact is still there; a moved work directory leaves dead entries behind."""
    return "://" in uri or Path(uri).is_dir()
