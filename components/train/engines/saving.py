"""Server states as bytes: the arrays of any structure, put back into the structure of another."""

import io
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from privet.components.shared.errors import StoreError

State = TypeVar("State")


def pack(state: Any) -> bytes:
    """The leaves of a structure (arrays, numbers, bytes or None) as an .npz file."""
    leaves = {
        str(place): np.asarray(leaf)
        for place, leaf in enumerate(tf.nest.flatten(state))
        if leaf is not None
    }
    assert not any(leaf.dtype.hasobject for leaf in leaves.values())  # they would be pickled
    buffer = io.BytesIO()
    np.savez(buffer, **leaves)
    return buffer.getvalue()


def unpack(content: bytes, like: State) -> State:
    """What was packed, to the bit.

    Args:
      content: what `pack` gave.
      like: a structure whose leaves have the same shapes and dtypes.

    Raises:
      StoreError: it has others.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as packed:
        leaves = {int(place): packed[place] for place in packed.files}
    wanted = dict(enumerate(tf.nest.flatten(like)))
    found, expected = _kinds(leaves), _kinds(wanted)
    if found != expected:
        raise StoreError(
            f"the saved state of training holds {list(found.values())}, this model and algorithm "
            f"have {list(expected.values())} (dtype and shape). Something that the model's file "
            "imports has changed: undo that, or train with another work directory."
        )
    restored = [
        _as_kind(leaves[place], leaf) if leaf is not None else None
        for place, leaf in wanted.items()
    ]
    return tf.nest.pack_sequence_as(like, restored)


def _kinds(leaves: dict[int, Any]) -> dict[int, tuple[str, tuple[int, ...]]]:
    arrays = {place: np.asarray(leaf) for place, leaf in leaves.items() if leaf is not None}
    return {place: (array.dtype.str, array.shape) for place, array in arrays.items()}


def _as_kind(value: np.ndarray, leaf: Any) -> Any:
    """The array, or the number or bytes, if the leaf is no array."""
    if isinstance(leaf, bytes):
        return value.item()
    return value if isinstance(leaf, np.ndarray) else value[()]
