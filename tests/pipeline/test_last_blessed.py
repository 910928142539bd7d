"""Which earlier model a candidate is compared with."""

import pytest

from privet.components.shared.artifacts import (
    VARIANTS_ID,
    InfraBlessing,
    ModelBlessing,
    ModelVariants,
    ServableModel,
)
from privet.pipeline.last_blessed import LastBlessedStrategy


@pytest.fixture
def resolve(tmp_path):
    """Resolves the baseline of a candidate; models are 1, 2, ... in the order of the verdicts.

    Each is one of the variants of its own run, whose id is 1000 more.
    """

    def servable(number, there=True):
        artifact = ServableModel()
        artifact.id = number
        artifact.uri = str(tmp_path / str(number))
        artifact.set_int_custom_property(VARIANTS_ID, 1000 + number)
        if there:
            (tmp_path / str(number)).mkdir(exist_ok=True)
        return artifact

    def variants(number):
        artifact = ModelVariants()
        artifact.id = 1000 + number
        return artifact

    def verdict(kind, number, blessed):
        artifact = kind()
        artifact.id = 100 + number
        artifact.blessed = int(blessed)
        artifact.set_int_custom_property("servable_id", number)
        return artifact

    def run(candidate, *, gate, infra, gone=()):
        found = LastBlessedStrategy().resolve_artifacts(
            None,
            {
                "candidates": [variants(candidate)],
                "servables": [servable(n, n not in gone) for n in gate],
                "blessings": [verdict(ModelBlessing, n, ok) for n, ok in gate.items()],
                "infra_blessings": [verdict(InfraBlessing, n, ok) for n, ok in infra.items()],
            },
        )
        assert found.keys() == {"candidates", "servables", "blessings", "infra_blessings"}
        return [artifact.id for artifact in found["servables"]]

    return run


def test_first_candidate_has_no_baseline(resolve):
    assert resolve(1, gate={}, infra={}) == []


def test_baseline_is_the_newest_blessed_model(resolve):
    assert resolve(3, gate={1: True, 2: True}, infra={1: True, 2: True}) == [2]
    assert resolve(3, gate={1: True, 2: False}, infra={1: True, 2: True}) == [1]


def test_model_that_no_server_could_serve_is_no_baseline(resolve):
    assert resolve(3, gate={1: True, 2: True}, infra={1: True, 2: False}) == [1]


def test_candidate_is_not_its_own_baseline(resolve):
    both = {1: True, 2: True}
    assert resolve(2, gate=both, infra=both) == [1]
    assert resolve(1, gate=both, infra=both) == [2]


def test_model_whose_folder_is_gone_is_no_baseline(resolve):
    both = {1: True, 2: True}
    assert resolve(3, gate=both, infra=both, gone=(2,)) == [1]
