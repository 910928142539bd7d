"""Simulated clients in the report: how they were made, and what examples each of them got."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privet.components.report.wording import in_order

MOST_CLIENTS = 60
MOST_LABELS = 24

_KINDS = {
    "iid": "shuffled and dealt out evenly",
    "dirichlet": "with skewed labels (Dirichlet)",
    "shards": "sorted by label and dealt out in runs",
    "by_feature": "by the values of a column",
    "quantity": "shuffled and dealt out unevenly",
}


@dataclass(frozen=True)
class ClientLabels:
    """How many examples of each label the clients of a partition have.

    Attributes:
        clients: names of those to draw, at most `MOST_CLIENTS`.
        counts: label -> examples of each of these clients, in the order of the rows.
        sizes: examples of each of these clients, those of labels not in `counts` included.
        population: how many clients there are in all.
        labels: how many labels there are in all.
    """

    clients: Sequence[str]
    counts: Mapping[str, Sequence[int]]
    sizes: Sequence[int]
    population: int
    labels: int

    @property
    def caption(self) -> str:
        """What the picture shows, what it leaves out, and that it is not private."""
        parts = [
            "Simulated clients. The stronger a cell, the more examples; the bars are all examples "
            "of a client."
        ]
        if self.population > len(self.clients):
            parts.append(f"Drawn are {len(self.clients):,} of {self.population:,} clients.")
        if self.labels > len(self.counts):
            parts.append(f"Drawn are the {len(self.counts)} most frequent of {self.labels} labels.")
        return " ".join((*parts, "Exact counts: not private."))


def how_divided(partition: Mapping[str, Any] | None) -> str | None:
    """In words, how Privet made the clients; None if it did not."""
    return _KINDS.get(str(partition.get("kind")), "by a partition") if partition else None


def client_labels(partition: Mapping[str, Any] | None) -> ClientLabels | None:
    """What to draw of a partition as statistics.json holds it; None if there is nothing.

    Of many clients the first are drawn, of many labels the most frequent among them.
    """
    partition = partition or {}
    clients = list(partition.get("shown") or ())[:MOST_CLIENTS]
    counted = {
        label: counts[: len(clients)] for label, counts in (partition.get("labels") or {}).items()
    }
    if not clients or not counted:
        return None
    frequent = sorted(counted, key=lambda label: -sum(counted[label]))[:MOST_LABELS]
    return ClientLabels(
        clients=clients,
        counts={label: counted[label] for label in in_order(set(frequent))},
        sizes=[sum(counts) for counts in zip(*counted.values(), strict=True)],
        population=int(partition.get("clients") or len(clients)),
        labels=len(counted),
    )
