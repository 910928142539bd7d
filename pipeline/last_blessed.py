"""Finds the last blessed model in ML Metadata: what a candidate is compared with."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.common import resolver
from tfx.types.artifact import Artifact

from privet.components.shared.artifacts import VARIANTS_ID

CANDIDATES, SERVABLES = "candidates", "servables"
BLESSINGS, INFRA_BLESSINGS = "blessings", "infra_blessings"


class LastBlessedStrategy(resolver.ResolverStrategy):
    """The newest servable that the gate and the server trial blessed, none of the candidates.

    The candidates are the variants of this run, of which one will be served. Leaving them out keeps
    a repeated run fully cached: once its own model is blessed, the run must still see the same
    baseline as before.
    """

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Returns the baseline (or nothing) under SERVABLES; TFX wants every key back."""
        del store
        candidates = {artifact.id for artifact in input_dict[CANDIDATES]}
        served = {_servable_id(b) for b in input_dict[INFRA_BLESSINGS] if b.blessed == 1}
        servables = {artifact.id: artifact for artifact in input_dict[SERVABLES]}
        blessed = [
            servable_id
            for blessing in sorted(input_dict[BLESSINGS], key=lambda artifact: artifact.id)
            if blessing.blessed == 1
            and (servable_id := _servable_id(blessing)) in servables
            and servable_id in served
            and servables[servable_id].get_int_custom_property(VARIANTS_ID) not in candidates
            and _exists(servables[servable_id].uri)
        ]
        baseline = [servables[blessed[-1]]] if blessed else []
        nothing: dict[str, list[Artifact]] = {BLESSINGS: [], INFRA_BLESSINGS: []}
        return {CANDIDATES: input_dict[CANDIDATES], SERVABLES: baseline, **nothing}


def _servable_id(blessing: Artifact) -> int:
    """The model that a verdict is about."""
    return blessing.get_int_custom_property("servable_id")


def _exists(uri: str) -> bool:
    """Whether an artifact is still there; a moved work directory leaves dead entries behind."""
    return "://" in uri or Path(uri).is_dir()
