"""Which clients are attacked: all of a split, or a pseudo-random sample of them."""

import numpy as np

from privet.components.shared.errors import DataError
from privet.components.shared.storage import (
    ClientReference,
    ClientStore,
    has_split,
    stable_hashes,
)


def sample_clients(examples: str, split: str, clients: int, seed: int) -> list[ClientReference]:
    """Clients of a split that hold examples, in order of shard and client id.

    Args:
      examples: folder of the ClientExamples.
      split: the split.
      clients: how many, at most: those with the smallest hash of seed and client id, so that the
        choice does not depend on the number of shards.
      seed: of the choice.

    Raises:
      DataError: there is none.
    """
    found: list[ClientReference] = []
    if has_split(examples, split):
        with ClientStore(examples, split) as store:
            found = [reference for reference in store if reference.examples]
    if not found:
        raise DataError(
            f"the membership attack compares clients of the train and of the eval split, and "
            f"{split} has none with examples. Raise data.split.eval, or set audit.membership: "
            "false."
        )
    if len(found) <= clients:
        return found
    ids = [reference.client_id.encode() for reference in found]
    chosen = np.argsort(stable_hashes("audit", seed, each=ids), kind="stable")[:clients]
    return [found[position] for position in np.sort(chosen)]
