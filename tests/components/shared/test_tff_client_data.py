"""A store as TFF's ClientData: the same examples, in TFF's own runtime too."""

import collections

import numpy as np
import pytest

from privet.components.shared.errors import StoreError
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData, ClientStore
from privet.components.shared.tff_client_data import to_tff

SCHEMA = Schema.from_mapping(
    {
        "client_id": "client",
        "features": {
            "image": {"columns": "image", "dtype": "uint8", "shape": [2, 3]},
            "age": {"columns": "age"},
            "count": {"columns": ["c0", "c1"], "dtype": "int64"},
        },
        "label": {"column": "y", "classes": 4},
    }
)
SIZES = {"ann": 3, "bob": 1, "çé": 7, "nil": 0, "eve": 2}


def make_clients() -> list[ClientData]:
    random = np.random.default_rng(0)
    return [
        ClientData(
            client,
            {
                "image": random.integers(0, 256, (size, 2, 3), np.uint8),
                "age": random.standard_normal((size, 1)).astype(np.float32),
                "count": random.integers(-(2**40), 2**40, (size, 2)),
            },
            random.integers(0, 4, size),
        )
        for client, size in SIZES.items()
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory, write_store):
    directory = write_store(tmp_path_factory.mktemp("store"), SCHEMA, {"train": make_clients()})
    with ClientStore(directory, "train") as opened:
        yield opened


def check_same(examples, client: ClientData) -> None:
    found = list(examples)
    assert len(found) == len(client)
    for number, example in enumerate(found):
        assert list(example) == ["age", "count", "image", "label"]
        for name, values in {**client.features, "label": client.labels}.items():
            assert example[name].dtype == values.dtype
            np.testing.assert_array_equal(example[name], values[number])


def test_every_client_has_its_examples(store):
    data = to_tff(store)
    assert data.client_ids == sorted(SIZES)
    for client in make_clients():
        examples = data.create_tf_dataset_for_client(client.client_id).as_numpy_iterator()
        check_same(examples, client)


def test_elements_are_features_then_label_of_the_stored_types(store):
    import tensorflow as tf

    assert to_tff(store).element_type_structure == collections.OrderedDict(
        age=tf.TensorSpec((1,), tf.float32),
        count=tf.TensorSpec((2,), tf.int64),
        image=tf.TensorSpec((2, 3), tf.uint8),
        label=tf.TensorSpec((), tf.int64),
    )


def test_tff_runs_the_dataset_computation(store):
    import tensorflow_federated as tff

    tff.backends.native.set_sync_local_cpp_execution_context()
    data = to_tff(store)
    for client in make_clients():
        argument = np.array(client.client_id.encode(), object)  # TFF takes str in ASCII only
        check_same(
            (
                {name: value.numpy() for name, value in example.items()}
                for example in data.dataset_computation(argument)
            ),
            client,
        )


def test_all_clients_together_and_preprocessing_work(store):
    data = to_tff(store)
    labels = data.preprocess(lambda dataset: dataset.map(lambda example: example["label"]))
    together = labels.create_tf_dataset_from_all_clients(seed=1)
    expected = np.concatenate([client.labels for client in make_clients()])
    assert sorted(int(label) for label in together) == sorted(expected.tolist())


def test_tff_can_save_it_as_its_own_sqlite(store, tmp_path):
    import tensorflow_federated as tff

    data = to_tff(store)
    path = str(tmp_path / "saved" / "a.sqlite")
    tff.simulation.datasets.save_to_sql_client_data(
        data.client_ids, data.create_tf_dataset_for_client, path
    )
    loaded = tff.simulation.datasets.load_and_parse_sql_client_data(
        path, data.element_type_structure
    )
    for client in make_clients():
        examples = loaded.create_tf_dataset_for_client(client.client_id).as_numpy_iterator()
        check_same(examples, client)


def test_unknown_client_is_an_error(store):
    import tensorflow as tf

    data = to_tff(store)
    with pytest.raises(ValueError, match="not a client"):
        data.create_tf_dataset_for_client("zoe")
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(data.serializable_dataset_fn(tf.constant("zoe")))


def test_a_split_without_clients_is_told(tmp_path, write_store):
    directory = write_store(tmp_path, SCHEMA, {"eval": []})
    with pytest.raises(StoreError, match="split 'eval' has no clients"):
        to_tff(ClientStore(directory, "eval"))
