"""The frontier of a sweep: a row for each configuration, and which of them another one beats.

Quality is the served model's on the held-out clients. The repeats of a configuration differ by
their seeds and give an interval; with one repeat it is the evaluation's own.
"""

import dataclasses
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from privet.components.shared import files, layout
from privet.components.train.config import TrainConfig
from privet.pipeline.workdir import Workdir

CONFIDENCE = 0.95

FINISHED = ("succeeded", "rejected")
"""What a point that has run to its end may be."""

COSTS = ("epsilon", "delta", "bytes_total", "model_bytes", "examples")
"""What a configuration costs: the less the better. No epsilon costs more than any."""

RULE = (
    "A configuration is dominated if another one costs no more in anything (epsilon and its delta, "
    "bytes down and up together, model size, examples processed; each compared in two digits) and "
    f"its {CONFIDENCE:.0%} interval of quality lies wholly above. The others are the frontier. "
    "Where intervals overlap nothing is said."
)

Value = str | int | float | bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A configuration; means are over its repeats.

    Attributes:
      configuration: its name, that of its points without the seed.
      levers: the value of each lever, or its name, as plain text where it is no number.
      dense_small: whether it is the small dense model beside a pruned one.
      repeats, failed: points that finished, and that did not.
      accepted: repeats that the gate blessed.
      metric, higher_is_better: what quality is.
      quality: mean of the served model's over all held-out examples.
      quality_low, quality_high: the interval; None where there is none.
      interval: what it is over: `repeats` or `clients`.
      quality_float: mean of the trained model's, uncompressed.
      epsilon, delta: the guarantee, the largest of the repeats'; None without privacy.
      guarantee: its unit and in what neighbouring data sets differ.
      noise_multiplier: mean.
      bytes_down_per_client_round, bytes_up_per_client_round: of a client in a round.
      bytes_down, bytes_up, bytes_total: of all clients in all rounds.
      model_bytes: of the served TFLite file, gzipped; mean.
      variants: names of the served variants.
      weights, weights_nonzero: that training moves, and that pruning leaves.
      client_rounds: clients that train, of all rounds together.
      examples: that they go through, every local epoch; the mean client's number of examples is
        taken for each.
      seconds: of training; mean of the repeats that trained anew, None if none did.
      rounds, cohort, local_epochs: rounds that were run, expected clients of one, passes over the
        examples in it.
      frontier: whether no other dominates it; None without an interval.
      dominated_by: those of the frontier that do.
    """

    configuration: str
    levers: Mapping[str, Value]
    dense_small: bool = False
    repeats: int
    failed: int = 0
    accepted: int
    metric: str
    higher_is_better: bool
    quality: float
    quality_low: float | None
    quality_high: float | None
    interval: str | None
    quality_float: float
    epsilon: float | None
    delta: float | None
    guarantee: str | None
    noise_multiplier: float | None
    bytes_down_per_client_round: float
    bytes_up_per_client_round: float
    bytes_down: float
    bytes_up: float
    bytes_total: float
    model_bytes: float
    variants: tuple[str, ...]
    weights: int
    weights_nonzero: int
    client_rounds: float
    examples: float
    seconds: float | None
    rounds: float
    cohort: float
    local_epochs: int
    frontier: bool | None = None
    dominated_by: tuple[str, ...] = ()


def rows_of(
    points: Sequence[Mapping[str, Any]], trains: Sequence[TrainConfig], root: Path
) -> list[Row]:
    """The rows of a sweep's configurations that have a finished point.

    Args:
      points: as in sweep.json.
      trains: the train section of each.
      root: the sweep's work directory.
    """
    groups: dict[str, list[tuple[Mapping[str, Any], TrainConfig]]] = {}
    for point, train in zip(points, trains, strict=True):
        groups.setdefault(point["configuration"], []).append((point, train))
    rows = []
    for group in groups.values():
        runs = [_read(*one, root) for one in group if one[0]["status"] in FINISHED]
        if runs:
            failed = sum(point["status"] == "failed" for point, _ in group)
            rows.append(_row(runs, failed))
    return judged(rows)


def judged(rows: Sequence[Row]) -> list[Row]:
    """The same rows with `frontier` and `dominated_by`, in the same order."""
    beaten_by = {row.configuration: [one for one in rows if dominates(one, row)] for row in rows}
    return [
        dataclasses.replace(
            row,
            frontier=None if row.quality_low is None else not beaten_by[row.configuration],
            dominated_by=tuple(
                sorted(
                    one.configuration
                    for one in beaten_by[row.configuration]
                    if not beaten_by[one.configuration]
                )
            ),
        )
        for row in rows
    ]


def dominates(one: Row, other: Row) -> bool:
    """Whether one is better beyond chance, and costs no more in anything; see RULE.

    It is a strict order: none dominates itself, and whatever a dominated one dominates is dominated
    by the same others.
    """
    lowest, highest = _interval(one)[0], _interval(other)[1]
    if lowest is None or highest is None or one.metric != other.metric:
        return False
    same_guarantee = other.epsilon is None or one.guarantee == other.guarantee
    return (
        same_guarantee
        and lowest > highest
        and all(_cost(one, name) <= _cost(other, name) for name in COSTS)
    )


def to_plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as sweep.json has them."""
    return [dataclasses.asdict(row) for row in rows]


def from_plain(values: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Reads back what `to_plain` gave."""
    lists = ("variants", "dominated_by")
    return [Row(**{**one, **{name: tuple(one[name]) for name in lists}}) for one in values]


def to_parquet(rows: Sequence[Row]) -> bytes:
    """A table of the rows: a column for each attribute, and `lever.<name>` for each lever."""
    levers = list(dict.fromkeys(lever for row in rows for lever in row.levers))
    fields = [field for field in dataclasses.fields(Row) if field.name != "levers"]
    columns: dict[str, pa.Array] = {}
    for field in fields:
        values = [getattr(row, field.name) for row in rows]
        columns[field.name] = pa.array(values, _arrow_type(field.type))
        if field.name == "configuration":
            columns |= {f"lever.{lever}": _lever_column(rows, lever) for lever in levers}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def shown(value: Value) -> str:
    """A lever's value in words."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class _Run:
    """The artifacts of a point that tell of it."""

    point: Mapping[str, Any]
    train: TrainConfig
    nodes: Mapping[str, Any]
    ledger: Mapping[str, Any]
    history: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    split: Mapping[str, Any]

    @property
    def served(self) -> Mapping[str, Any]:
        """The evaluation of the served variant."""
        return self.evaluation["models"][self.point["headline"]["variant"]]


def _read(point: Mapping[str, Any], train: TrainConfig, root: Path) -> _Run:
    workdir = Workdir.at(root / point["workdir"])
    summary = files.read_json(str(workdir.run_json))

    def content(artifact: str, name: str) -> Any:
        return files.read_json(str(workdir.root / summary["artifacts"][artifact] / name))

    return _Run(
        point,
        train,
        summary["nodes"],
        content("ledger", layout.LEDGER),
        content("history", layout.HISTORY),
        content("evaluation", layout.EVALUATION),
        content("examples", layout.STATISTICS)["splits"]["train"],
    )


def _row(runs: Sequence[_Run], failed: int) -> Row:
    """The row of a configuration, of whose points these have finished and others failed."""
    first = runs[0]
    metric = first.evaluation["metric"]
    heads = [run.point["headline"] for run in runs]
    qualities = [run.served["overall"][metric] for run in runs]
    low, high, over = _interval_of(qualities, first, metric)
    private = all(run.ledger["private"] for run in runs)
    traffic = {name: _mean([run.history["bytes"][name] for run in runs]) for name in _TRAFFIC}
    trained = [run.nodes["FederatedTrainer"] for run in runs]
    seconds = [node["seconds"] for node in trained if not node["cached"]]
    noise = [run.ledger["mechanism"].get("noise_multiplier") for run in runs]
    relation = first.ledger.get("neighbouring_relation")
    return Row(
        configuration=first.point["configuration"],
        levers={name: _plain(value) for name, value in first.point["levers"].items()},
        dense_small=first.point["dense_small"],
        repeats=len(runs),
        failed=failed,
        accepted=sum(run.point["status"] == "succeeded" for run in runs),
        metric=metric,
        higher_is_better=first.evaluation["higher_is_better"],
        quality=_mean(qualities),
        quality_low=low,
        quality_high=high,
        interval=over,
        quality_float=_mean([head["float"] for head in heads]),
        epsilon=max(run.ledger["epsilon"] for run in runs) if private else None,
        delta=max(run.ledger["delta"] for run in runs) if private else None,
        guarantee=f"{first.ledger['unit']}, {relation}" if private else None,
        noise_multiplier=None if None in noise else _mean(noise),
        bytes_down_per_client_round=traffic["down_per_client_round"],
        bytes_up_per_client_round=traffic["up_per_client_round"],
        bytes_down=traffic["down_total"],
        bytes_up=traffic["up_total"],
        bytes_total=traffic["down_total"] + traffic["up_total"],
        model_bytes=_mean([head["bytes_compressed_gzip"] for head in heads]),
        variants=tuple(sorted({head["variant"] for head in heads})),
        weights=first.point["weights"]["total"],
        weights_nonzero=first.point["weights"]["nonzero"],
        client_rounds=_mean([_client_rounds(run) for run in runs]),
        examples=_mean([_client_rounds(run) * _examples_per_client(run) for run in runs]),
        seconds=_mean(seconds) if seconds else None,
        rounds=_mean([run.ledger["rounds"] for run in runs]),
        cohort=first.ledger["sampling"]["expected_cohort"],
        local_epochs=first.train.local_epochs,
    )


_TRAFFIC = ("down_per_client_round", "up_per_client_round", "down_total", "up_total")


def _interval_of(
    qualities: Sequence[float], first: _Run, metric: str
) -> tuple[float | None, float | None, str | None]:
    """Student's interval of the mean, or that of the one evaluation."""
    if len(qualities) > 1:
        tail = stats.t.ppf((1 + CONFIDENCE) / 2, len(qualities) - 1)
        half = tail * statistics.stdev(qualities) / math.sqrt(len(qualities))
        return _mean(qualities) - half, _mean(qualities) + half, "repeats"
    found = (first.served.get("intervals") or {}).get(metric)
    return (*found, "clients") if found else (None, None, None)


def _client_rounds(run: _Run) -> float:
    return run.ledger["rounds"] * run.ledger["sampling"]["expected_cohort"]


def _examples_per_client(run: _Run) -> float:
    """That the mean client goes through in a round."""
    each = run.split["examples"] / run.split["clients"] * run.train.local_epochs
    steps = run.train.max_steps
    return each if steps is None else min(each, steps * run.train.batch_size)


def _interval(row: Row) -> tuple[float | None, float | None]:
    """The interval of quality, turned so that more is better."""
    if row.higher_is_better or row.quality_low is None or row.quality_high is None:
        return row.quality_low, row.quality_high
    return -row.quality_high, -row.quality_low


def _cost(row: Row, name: str) -> float:
    """A cost in two digits: a byte of gzip or a thousandth of epsilon decides nothing."""
    value = getattr(row, name)
    return math.inf if value is None else float(f"{value:.1e}")


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _plain(value: Any) -> Value:
    """A lever's value as a table can hold it."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def _lever_column(rows: Sequence[Row], lever: str) -> pa.Array:
    values = [row.levers.get(lever) for row in rows]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return pa.array(values, pa.float64())
    present = [lever in row.levers for row in rows]
    return pa.array(
        [shown(value) if there else None for value, there in zip(values, present, strict=True)],
        pa.string(),
    )


def _arrow_type(annotation: Any) -> pa.DataType:
    """The column's type by the attribute's."""
    kinds = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    if annotation == tuple[str, ...]:
        return pa.list_(pa.string())
    return next(kind for plain, kind in kinds.items() if annotation in (plain, plain | None))
