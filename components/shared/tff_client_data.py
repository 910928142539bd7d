"""A client store as the ClientData of tff.simulation.datasets, for code written with TFF.

The other way round, TFF's data sets are read by ingestion (format tff_sqlite, or by name).
"""

import collections
from typing import Any

import numpy as np

from privet.components.shared import files, tfrecord
from privet.components.shared.errors import StoreError
from privet.components.shared.schema import LABEL, Schema
from privet.components.shared.storage import ClientReference, ClientStore


def to_tff(store: ClientStore) -> Any:
    """The clients of a split as a tff.simulation.datasets.ClientData.

    Datasets are made of TensorFlow's own operations, so they also run on TFF's workers, wherever
    the store's files can be read by TensorFlow. They do not check the records' checksums. A
    traced dataset function holds the index, about 100 bytes per client.

    Args:
      store: the split; it may be closed afterwards.

    Returns:
      A ClientData whose elements are single examples, an OrderedDict of the features in the
      order of schema.json and then `label`, of the stored dtypes and shapes.

    Raises:
      StoreError: there are no clients in the split.
    """
    import tensorflow_federated as tff

    references = {reference.client_id: reference for reference in store.references()}
    if not references:
        raise StoreError(f"split {store.split!r} has no clients to make a ClientData of")
    client_ids = sorted(references)
    shards = sorted({reference.shard for reference in references.values()})
    sizes = {shard: files.stamp(shard)[0] for shard in shards}
    places = np.array([_place(references[one], sizes, shards) for one in client_ids], np.int64)
    schema = store.schema

    def dataset_of(client_id: Any) -> Any:
        import tensorflow as tf

        if isinstance(client_id, str):  # looked up here, not by TensorFlow
            shard, before, length, after = _place(references[client_id], sizes, shards)
            return _dataset(shards[shard], before, length, after, schema)
        # Constants are made in the graph that is being built, which alone may use them.
        found = tf.where(tf.equal(tf.constant(client_ids), client_id))[0, 0]
        shard, before, length, after = tf.unstack(tf.constant(places)[found])
        return _dataset(tf.constant(shards)[shard], before, length, after, schema)

    return tff.simulation.datasets.ClientData.from_clients_and_tf_fn(client_ids, dataset_of)


def _place(
    reference: ClientReference, sizes: dict[str, int], shards: list[str]
) -> tuple[int, int, int, int]:
    """The shard's number, and the bytes before, in and after the record."""
    before = reference.offset + tfrecord.HEAD
    after = sizes[reference.shard] - before - reference.length
    return shards.index(reference.shard), before, reference.length, after


def _dataset(path: Any, before: Any, length: Any, after: Any, schema: Schema) -> Any:
    """The examples of the record that lies at a place of a file."""
    import tensorflow as tf

    records = tf.data.FixedLengthRecordDataset(path, length, before, after)
    columns = {name: (one.dtype, one.example_shape) for name, one in schema.features.items()}
    columns[LABEL] = (schema.label.dtype, ())

    def examples_of(record: Any) -> Any:
        wanted = {f"column/{name}": tf.io.FixedLenFeature([], tf.string) for name in columns}
        parsed = tf.io.parse_single_example(record, wanted)
        return tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(
                (name, tf.reshape(tf.io.decode_raw(parsed[f"column/{name}"], dtype), [-1, *shape]))
                for name, (dtype, shape) in columns.items()
            )
        )

    return records.flat_map(examples_of)
