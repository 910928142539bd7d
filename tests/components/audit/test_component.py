"""PrivacyAuditor as TFX runs it: artifacts that are imported, real ML Metadata, real Beam."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.audit.config import AuditConfig
from privet.components.shared import artifacts
from privet.components.shared.errors import PrivacyError

LEDGER = {
    "private": True,
    "unit": "client",
    "rounds": 3,
    "canaries": 0,
    "epsilon": 2.0,
    "delta": 1e-5,
    "parts": [{"what": "training", "epsilon": 2.0}],
}


def canaries(right: int) -> dict[str, Any]:
    """A hundred canaries, of which the statistic shows the coins of so many."""
    included = [i % 2 == 0 for i in range(100)]
    shown = [coin if i < right else not coin for i, coin in enumerate(included)]
    statistic = [float(coin) + 0.001 * i for i, coin in enumerate(shown)]
    return {
        "schema": 1,
        "private": True,
        "count": 100,
        "rounds": 3,
        "included": included,
        "all_iterates": statistic,
        "final": statistic,
        "seconds": 0.1,
        "seconds_of_rounds": 20.0,
    }


@pytest.fixture(scope="module")
def place(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """y = 2 x, three clients of train that it fits, and two of eval that it does not."""
    import tensorflow as tf

    place = tmp_path_factory.mktemp("auditor")
    splits = {
        "train": [client(f"t{i}", [2 * i], dtype="float32", x=[[i]]) for i in range(3)],
        "eval": [client(f"e{i}", [2 * i + 1], dtype="float32", x=[[i]]) for i in range(2)],
    }
    write_store(place / "examples", schema_of({"x": 1}, None), splits)
    inputs = tf.keras.Input((1,), name="x")
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, use_bias=False)(inputs))
    model.set_weights([np.array([[2]], np.float32)])
    model.save(place / "model", include_optimizer=False, save_format="tf")
    for folder, name, content in (
        ("ledger", "privacy_ledger.json", LEDGER),
        ("ledger_with_canaries", "privacy_ledger.json", {**LEDGER, "canaries": 100}),
        ("history", "training_history.json", {}),
        ("with_canaries", "canaries.json", canaries(75)),
        ("with_telling_canaries", "canaries.json", canaries(100)),
    ):
        (place / folder).mkdir()
        (place / folder / name).write_text(json.dumps(content))
    return place


@pytest.fixture(scope="module")
def run(place: Path, beam_options: list[str]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs the auditor on one of the histories; gives audit.json."""
    from tfx.dsl.components.common.importer import Importer
    from tfx.orchestration import metadata, pipeline
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from privet.components.audit.component import PrivacyAuditor

    def audited(history: str, config: AuditConfig | None = None) -> dict[str, Any]:
        types = {
            "examples": artifacts.ClientExamples,
            "model": artifacts.FederatedModel,
            "ledger": artifacts.PrivacyLedger,
            "history": artifacts.TrainingHistory,
        }
        folders = {"history": history}
        if history != "history":
            folders["ledger"] = "ledger_with_canaries"
        imported = {
            name: Importer(
                source_uri=str(place / folders.get(name, name)),
                artifact_type=artifact,
            ).with_id(name)
            for name, artifact in types.items()
        }
        auditor = PrivacyAuditor(
            **{name: node.outputs["result"] for name, node in imported.items()}, config=config
        )
        LocalDagRunner().run(
            pipeline.Pipeline(
                pipeline_name=f"audit-{history}",
                pipeline_root=str(place / "artifacts" / history),
                components=[*imported.values(), auditor],
                enable_cache=True,
                metadata_connection_config=metadata.sqlite_metadata_connection_config(
                    str(place / "metadata.sqlite")
                ),
                beam_pipeline_args=beam_options,
            )
        )
        # One file, however often it ran: the second time it is cached.
        (path,) = place.glob(f"artifacts/{history}/PrivacyAuditor/audit/*/audit.json")
        return json.loads(path.read_text())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])  # TFX hands our arguments on to Beam
        yield audited


def test_training_without_canaries_is_attacked(run: Any) -> None:
    found = run("history")
    membership = found["membership"]

    assert (membership["members"], membership["non_members"]) == (3, 2)
    assert membership["auc"] == membership["tpr"] == 1.0
    assert found["canaries"] is None
    assert found["ledger"] == {"private": True, "epsilon": 2.0, "delta": 1e-5}


def test_canaries_are_beside_the_ledger_and_a_second_run_is_cached(run: Any) -> None:
    found = run("with_canaries", AuditConfig(membership=False))

    assert found["membership"] is None
    assert (found["canaries"]["count"], found["canaries"]["included"]) == (100, 50)
    assert found["canaries"]["overhead"] == pytest.approx(0.005)
    bound = found["canaries"]["lower_bound"]
    assert 0 < bound["epsilon"] < 2.0 < bound["ceiling"]
    assert run("with_canaries", AuditConfig(membership=False)) == found


def test_ledger_that_claims_less_than_is_shown_stops_the_run(run: Any, place: Path) -> None:
    with pytest.raises(PrivacyError, match=r"epsilon 2 of training at .* 50 of 50 guesses"):
        run("with_telling_canaries", AuditConfig(membership=False))
    # Two guesses alone could show nothing; but it is too late to choose that.
    with pytest.raises(PrivacyError, match=r"an audit before has refuted .* 50 of 50 guesses"):
        run("with_telling_canaries", AuditConfig(membership=False, guesses=0.02))
    assert not list(place.glob("artifacts/with_telling_canaries/**/audit.json"))
