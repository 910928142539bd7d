"""Quality: accuracy of the default digits run on held-out clients, with and without privacy.

Trains over seeds 0, 1 and 2 as `examples/digits/config.yaml` says and compares the mean accuracy
with the bar. Privacy noise is never seeded, so the private figure differs from run to run by about
a point.

    python benchmarks/quality.py [--workload digits] [--quick] [--json]
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import tempfile
from pathlib import Path
from typing import Any

from _measure import figure, parse_arguments, show
from _store import ingest

from privet.components.train.run import run_training
from privet.pipeline.config import PipelineConfig, load_config

CONFIG = Path(__file__).parents[1] / "examples" / "digits" / "config.yaml"
COMPILED = "train.engine=compiled"
WITHOUT_PRIVACY = "train.privacy={mechanism: none}"
BARS = {"epsilon 4": 0.90, "without privacy": 0.94}


def accuracy(config: PipelineConfig, examples: str, seed: int) -> float:
    """Accuracy on the held-out clients after the last round."""
    result: Any = run_training(
        examples,
        config.model.module_file,
        config.model.function,
        config.train,
        seed,
        lambda _: None,
    )
    return float(result.history["rounds"][-1]["eval"]["accuracy"])


def main() -> None:
    """Trains and prints."""
    arguments = parse_arguments(__doc__.splitlines()[0], ["digits"])
    seeds = (0,) if arguments.quick else (0, 1, 2)
    configs = {
        "epsilon 4": load_config(CONFIG, ["train.evaluate_every=30", COMPILED]),
        "without privacy": load_config(
            CONFIG, [WITHOUT_PRIVACY, "train.evaluate_every=30", COMPILED]
        ),
    }
    figures = []
    with tempfile.TemporaryDirectory() as directory:
        examples = ingest(configs["epsilon 4"].data, directory)
        for name, config in configs.items():
            mean = statistics.mean(accuracy(config, examples, seed) for seed in seeds)
            bar = BARS[name]
            figures.append(
                figure(
                    f"digits accuracy, {name}, mean of {len(seeds)} seeds",
                    mean,
                    "of 1",
                    ratio=mean / bar,
                    ratio_to=f"the wanted {bar}",
                    bar=1.0,
                )
            )
    show(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
