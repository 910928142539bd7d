"""Writes the digits as an ordinary CSV: 1,797 real images, one row each, owned by clients.

scikit-learn ships the images (8x8 pixels, grey levels 0..16; E. Alpaydin, C. Kaynak, 1998, UCI
"Optical Recognition of Handwritten Digits"). 80% of them go to 200 clients that train and the
rest to 50 further clients that are held out, each group by a seeded Dirichlet(0.5) label
partition. The column `split` says which group a client is in.

    python examples/digits/make_data.py [--seed 0]
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from partition import dirichlet_clients

ALPHA = 0.5
CLIENTS = {"train": 200, "eval": 50}
OUTPUT = Path(__file__).with_name("data") / "digits.csv"


def write(path: Path, seed: int = 0) -> None:
    """Writes the table: client, split, pixel_0 .. pixel_63, digit."""
    generator = np.random.default_rng(seed)
    images, digits = load_digits(return_X_y=True)
    order = generator.permutation(len(digits))
    train = round(0.8 * len(digits))
    rows = []
    for split, members in (("train", order[:train]), ("eval", order[train:])):
        owners = dirichlet_clients(digits[members], CLIENTS[split], ALPHA, generator)
        for owner, image in zip(owners, members, strict=True):
            pixels = images[image].astype(int).tolist()
            rows.append([f"{split}-{owner:03d}", split, *pixels, int(digits[image])])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["client", "split", *(f"pixel_{i}" for i in range(64)), "digit"])
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the division into clients")
    write(OUTPUT, parser.parse_args().seed)
    print(f"wrote {OUTPUT}")
