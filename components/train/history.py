"""The rounds of a run as they are told: training_history.json, history.parquet and TensorBoard.

All three say the same, and leave out the same: realised cohort sizes (and, with them, the time of
a round) are written only when they are no secret. Amplification by Poisson sampling assumes that
nobody learns who took part.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from privet.components.shared import files, layout
from privet.components.train.communication import mean_traffic
from privet.components.train.config import TrainConfig
from privet.components.train.participation import Participation
from privet.components.train.sampling import Sampler

EVAL_NOTE = "measured on the eval clients, which do not train; not covered by epsilon"
PUBLIC_EVAL_NOTE = (
    "measured on the eval clients, which hold public data by the configuration's own statement "
    "(train.public_eval)"
)


@dataclasses.dataclass(frozen=True)
class Round:
    """What is known about one round.

    Attributes:
      number: counted from 1.
      cohort: clients that took part. A secret under Poisson sampling.
      seconds: wall time.
      epsilon: spent up to and including this round; None without privacy, and in those of many
        rounds for which it was not computed.
      evaluation: metrics of the global model on the eval clients, or None if not evaluated.
      examples: steps of clients took so many examples, each as often as it was taken; None where
        the cohort is a secret.
      sparsity: share of the prunable weights that is zero after it; None unless training prunes.
    """

    number: int
    cohort: int
    seconds: float
    epsilon: float | None
    evaluation: dict[str, float] | None
    examples: int | None = None
    sparsity: float | None = None


def training_history(
    rounds: Sequence[Round],
    config: TrainConfig,
    sampler: Sampler,
    participation: Participation,
    *,
    metric: str,
    shapes: Sequence[tuple[int, ...]],
    sent: np.ndarray | None = None,
) -> dict[str, Any]:
    """The content of training_history.json.

    Args:
      rounds: of the finished run.
      config: settings.
      sampler: what drew the cohorts.
      participation: who reports.
      metric: the headline metric of the task.
      shapes: of the trainable weights.
      sent: messages of clients and their bytes, int64 [2], where they were measured.
    """
    secret = sampler.draws.probability is not None
    traffic = mean_traffic(config, shapes, len(rounds))
    up = traffic.up
    if sent is not None:
        up = int(sent[1]) / max(1, int(sent[0]))
    up_total = round(up * participation.expected_reports * len(rounds))
    if sent is not None and not secret:
        up_total = int(sent[1])
    return {
        "schema": 1,
        "metric": metric,
        "rounds": [
            {
                "round": round_.number,
                "cohort": None if secret else round_.cohort,
                "seconds": None if secret else round(round_.seconds, 4),
                "epsilon": round_.epsilon,
                "sparsity": round_.sparsity,
                "eval": round_.evaluation,
            }
            for round_ in rounds
        ],
        "eval_private": False,
        "eval_note": PUBLIC_EVAL_NOTE if config.public_eval else EVAL_NOTE,
        "bytes": {
            "down_per_client_round": round(traffic.down),
            "up_per_client_round": round(up),
            "up_measured": sent is not None,
            "down_total": round(traffic.down * participation.expected_starts * len(rounds)),
            "up_total": up_total,
        },
        "algorithm": config.algorithm,
        "parameters": sum(math.prod(shape) for shape in shapes),
        "local_epochs": config.local_epochs,
        "batch_size": config.batch_size,
    }


def write_history(folder: str, history: Mapping[str, Any]) -> None:
    """Writes the history in its three forms.

    Args:
      folder: of the TrainingHistory artifact.
      history: see training_history.
    """
    files.write_json(files.join(folder, layout.HISTORY), history)
    rows = [_flat(row) for row in history["rounds"]]
    _write_table(files.join(folder, layout.HISTORY_TABLE), rows)
    _write_events(files.join(folder, layout.TENSORBOARD), rows)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with eval_<metric> in place of the metrics."""
    metrics = {f"eval_{name}": value for name, value in (row["eval"] or {}).items()}
    return {name: value for name, value in row.items() if name != "eval"} | metrics


def _write_table(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row per round; every column but the round's number may hold nulls."""
    import pyarrow as pa
    from pyarrow import parquet

    whole = {"round": pa.int64(), "cohort": pa.int64()}
    columns = {
        name: pa.array([row.get(name) for row in rows], whole.get(name, pa.float64()))
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    buffer = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), buffer)
    files.write_bytes(path, buffer.getvalue().to_pybytes())


def _write_events(folder: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same numbers as scalars by round, under the names of the table's columns.

    An event carries the time at which it is written. All are written after the last round, since
    those times would tell how long each round took.
    """
    import tensorflow as tf  # slow to import, and the driver does without

    writer = tf.summary.create_file_writer(folder)
    with writer.as_default():
        for row in rows:
            for name, value in row.items():
                if name != "round" and value is not None:
                    tf.summary.scalar(name, value, step=row["round"])
    writer.close()
