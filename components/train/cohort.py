"""A client's part in a round: its examples in the order in which it trains on them."""

import numpy as np

from privet.components.shared.storage import ClientData, stable_hash


def training_order(client: ClientData, *, seed: int, round_number: int, epochs: int) -> np.ndarray:
    """Indices of the client's examples for all local epochs, each epoch a new permutation.

    The order depends on the seed, the round and the client alone, so that every engine trains
    on the same batches.

    Returns:
      int64 [epochs * examples].
    """
    generator = np.random.default_rng([seed, round_number, stable_hash("order", client.client_id)])
    return np.concatenate([generator.permutation(len(client)) for _ in range(epochs)])
