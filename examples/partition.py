"""Dirichlet label partition: how the examples turn a plain table into clients."""

import numpy as np


def dirichlet_clients(
    labels: np.ndarray, clients: int, alpha: float, generator: np.random.Generator
) -> np.ndarray:
    """Gives every example a client, with label skew.

    For each class a Dirichlet(alpha) draw says which share of it each client gets (Hsu, Qi and
    Brown, 2019, "Measuring the Effects of Non-Identical Data Distribution"). A client that drew
    nothing then receives one example from a largest client, so that every client exists.

    Args:
      labels: class of each example, int [examples].
      clients: number of clients; at most the number of examples.
      alpha: concentration; smaller is more skewed.
      generator: source of randomness.

    Returns:
      The client of each example, int [examples].
    """
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        shares = generator.dirichlet(np.full(clients, alpha))
        owner[members] = generator.choice(clients, size=len(members), p=shares)
    for client in range(clients):
        if not np.any(owner == client):
            largest = np.bincount(owner, minlength=clients).argmax()
            owner[np.flatnonzero(owner == largest)[0]] = client
    return owner
