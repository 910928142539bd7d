"""Writes simulated clients: 100 inputs, 100 samples each, a linear target with client shifts.

The setting of many articles on federated learning with privacy: made-up data, so that nothing
has to be found before the pipeline runs. Not real data, and no result to quote.

    python examples/seed_mlp/make_data.py [--seed 0] [--clients 200]
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

SAMPLES, INPUTS = 100, 100
OUTPUT = Path(__file__).with_name("data") / "clients.parquet"


def write(path: Path, seed: int = 0, clients: int = 200) -> None:
    """Writes the table: client, x_0 .. x_99, y."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=INPUTS) / np.sqrt(INPUTS)
    shift = generator.normal(0, 0.3, clients).repeat(SAMPLES)
    x = generator.normal(size=(clients * SAMPLES, INPUTS)).astype(np.float32)
    y = x @ weights + shift + generator.normal(0, 0.1, len(x))
    owners = [f"client-{number:03d}" for number in range(clients) for _ in range(SAMPLES)]
    table = pa.table(
        {
            "client": owners,
            **{f"x_{i}": x[:, i] for i in range(INPUTS)},
            "y": y.astype(np.float32),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, use_dictionary=["client"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=200)
    arguments = parser.parse_args()
    write(OUTPUT, arguments.seed, arguments.clients)
    print(f"wrote {OUTPUT}")
