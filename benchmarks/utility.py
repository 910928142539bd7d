"""Utility: accuracy on held-out clients at a stated privacy, as the examples' configurations train.

    python benchmarks/utility.py [--workload digits|handwriting|warm_start] [--quick] [--json]

- digits: 200 clients, all of them in each of 30 rounds, at delta 1e-5; and without privacy.
- handwriting: 3,400 synthetic writers, Poisson cohorts of 300, 100 rounds, at delta 1e-4.
- warm_start: the same, at a smaller epsilon, from weights that were trained without privacy on a
  public population: other writers, who write other alphabets (fonts with serifs, of which the
  private population has none).

Seeds 0, 1 and 2 decide initial weights and the order of examples. The noise and the coin flips of
private rounds come from the operating system, so figures differ from run to run. A figure is a mean
and comes with the value, epsilon and delta of each run; a ledger above what the figure says is an
error.

The settings are those of the examples, chosen without the held-out clients of the figures: for
digits in 39 tries of a simulation on its training clients, which IS NOT CHARGED to any ledger; for
handwriting in 13 tries and for the warm start in 4, on a population of another seed, whose people
are in no figure. docs/training.md, "What privacy costs", tells how.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _measure import figure, run_workloads
from _store import ingest

from privet.components.ingest.config import IngestConfig
from privet.components.shared.storage import ClientStore
from privet.components.train.held_out import build_evaluation
from privet.components.train.run import TrainingResult, run_training
from privet.pipeline.config import PipelineConfig, load_config

EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = EXAMPLES / "digits" / "config.yaml"
HANDWRITING = EXAMPLES / "handwriting" / "config.yaml"
SEEDS = (0, 1, 2)
EVALUATED_ONCE = ("train.engine=compiled", "train.evaluate_every=1000")  # after the last round
WITHOUT_PRIVACY = "train.privacy={mechanism: none}"
PUBLIC = ("--seed", "2", "--alphabets", "serif")
FINE_TUNING = "train.server_optimizer.learning_rate=0.25"


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked of a workload: accuracy at least `accuracy`, at a privacy or without any."""

    accuracy: float
    epsilon: float | None = None
    delta: float | None = None

    @property
    def privacy(self) -> list[str]:
        """What to set in the example's configuration."""
        if self.epsilon is None:
            return [WITHOUT_PRIVACY]
        return [f"train.privacy.epsilon={self.epsilon}", f"train.privacy.delta={self.delta}"]

    def __str__(self) -> str:
        if self.epsilon is None:
            return "without privacy"
        return f"at epsilon {self.epsilon:g}, delta {self.delta:g}"


def main() -> None:
    """Measures and prints."""
    run_workloads(
        __doc__.splitlines()[0],
        {
            "digits": digits,
            "handwriting": handwriting,
            "warm_start": warm_start,
        },
    )


def digits(folder: str, quick: bool) -> list[dict[str, Any]]:
    """The default job. `quick`: one seed."""
    targets = [
        Target(0.92, epsilon=8, delta=1e-5),
        Target(0.91, epsilon=4, delta=1e-5),
        Target(0.85, epsilon=2, delta=1e-5),
        Target(0.94),
    ]
    examples = ingest(load_config(DIGITS).data, folder)
    return [measure("digits", DIGITS, examples, target, quick) for target in targets]


def handwriting(folder: str, quick: bool) -> list[dict[str, Any]]:
    """From random weights. `quick`: one seed."""
    examples = population(folder)
    target = Target(0.57, epsilon=8, delta=1e-4)
    return [measure("handwriting", HANDWRITING, examples, target, quick)]


def warm_start(folder: str, quick: bool) -> list[dict[str, Any]]:
    """From the weights of a public population. `quick`: one seed."""
    examples, weights = population(folder), str(Path(folder, "public_model"))
    config = load_config(HANDWRITING, [*EVALUATED_ONCE, WITHOUT_PRIVACY])
    public = train(config, public_population(folder), SEEDS[0])
    public.model.save(weights, include_optimizer=False, save_format="tf")
    target = Target(0.57, epsilon=2, delta=1e-4)
    settings = [f"train.initial_weights={weights}", FINE_TUNING]
    tuned = measure("handwriting, warm start", HANDWRITING, examples, target, quick, settings)
    alone = accuracy_of(public, examples)
    gain = figure(
        "handwriting, warm start: what training on the private population adds",
        tuned["value"] - alone,
        "of 1",
        ratio=tuned["value"] / alone,
        ratio_to=f"the public model alone ({alone:.4f})",
        bar=1.0,
    )
    return [tuned, gain]


def measure(
    name: str,
    file: Path,
    examples: str,
    target: Target,
    quick: bool,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """The figure of a target: the mean over seeds; each run's value, and what its ledger says.

    Raises:
      RuntimeError: a ledger says more than the target's epsilon or delta.
    """
    seeds = SEEDS[:1] if quick else SEEDS
    config = load_config(file, [*EVALUATED_ONCE, *target.privacy, *settings])
    results = [train(config, examples, seed) for seed in seeds]
    for result in results:
        check_ledger(result.ledger, target)
    values = [result.history["rounds"][-1]["eval"]["accuracy"] for result in results]
    mean = statistics.mean(values)
    return {
        **figure(
            f"{name}, accuracy {target}, mean of seeds {', '.join(map(str, seeds))}",
            mean,
            "of 1",
            ratio=mean / target.accuracy,
            ratio_to=f"the wanted {target.accuracy}",
            bar=1.0,
        ),
        "values": [round(value, 4) for value in values],
        "epsilon": [result.ledger["epsilon"] for result in results],
        "delta": [result.ledger["delta"] for result in results],
    }


def train(config: PipelineConfig, examples: str, seed: int) -> TrainingResult:
    """Trains as the pipeline's step does."""
    model = config.model
    return run_training(
        examples, model.module_file, model.function, config.train, seed, lambda _: None
    )


def check_ledger(ledger: Mapping[str, Any], target: Target) -> None:
    """Refuses a figure at a privacy that its run did not keep."""
    if target.epsilon is None or target.delta is None:
        return
    epsilon, delta = ledger["epsilon"], ledger["delta"]
    if not (ledger["private"] and epsilon <= target.epsilon and delta <= target.delta):
        raise RuntimeError(
            f"wanted a run {target}, but its ledger says private={ledger['private']}, "
            f"epsilon={epsilon}, delta={delta}. The figure would be false"
        )


def accuracy_of(result: TrainingResult, examples: str) -> float:
    """Accuracy of a model on held-out clients of another population."""
    evaluate = build_evaluation(result.model, ClientStore(examples, "eval"))
    weights = [variable.numpy() for variable in result.model.trainable_variables]
    return evaluate(weights)["accuracy"]


def population(folder: str) -> str:
    """The writers that the example trains on and holds out; the store's folder."""
    return _ingested(Path(folder, "private"), [])


def public_population(folder: str) -> str:
    """Other writers, with other alphabets; the store's folder."""
    return _ingested(Path(folder, "public"), PUBLIC)


def _ingested(folder: Path, options: Sequence[str]) -> str:
    """A population of the generator, written and ingested; the store's folder."""
    script = str(EXAMPLES / "handwriting" / "make_data.py")
    subprocess.run(
        [sys.executable, script, "--output", str(folder), *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    data = json.loads(load_config(HANDWRITING).data.to_json())
    return ingest(IngestConfig.from_mapping({**data, "files": f"{folder}/*.parquet"}), str(folder))


if __name__ == "__main__":
    main()
