"""Writes the breast-cancer table as an ordinary CSV: 569 real patients, owned by 40 hospitals.

scikit-learn ships the table (W. N. Street, W. H. Wolberg, O. L. Mangasarian, 1993, UCI "Breast
Cancer Wisconsin (Diagnostic)"): ten measurements of cell nuclei, each as mean, standard error
and worst value. Patients go to hospitals by a seeded Dirichlet(1.0) label partition; which
hospitals are held out is left to ingestion, which splits by the hash of the client id.

    python examples/hospitals/make_data.py [--seed 0]
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from partition import dirichlet_clients

ALPHA = 1.0
CLIENTS = 40
OUTPUT = Path(__file__).with_name("data") / "hospitals.csv"


def write(path: Path, seed: int = 0) -> None:
    """Writes the table: hospital, mean_0 .. mean_9, error_0 .., worst_0 .., malignant."""
    generator = np.random.default_rng(seed)
    table = load_breast_cancer()
    malignant = 1 - table.target  # scikit-learn's 0 is malignant
    owners = dirichlet_clients(malignant, CLIENTS, ALPHA, generator)
    columns = [f"{kind}_{i}" for kind in ("mean", "error", "worst") for i in range(10)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["hospital", *columns, "malignant"])
        for patient in np.argsort(owners, kind="stable"):
            values = table.data[patient].tolist()
            writer.writerow([f"hospital-{owners[patient]:02d}", *values, int(malignant[patient])])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the division into hospitals")
    write(OUTPUT, parser.parse_args().seed)
    print(f"wrote {OUTPUT}")
