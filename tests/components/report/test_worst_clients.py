"""The worst clients of a hand-made evaluation, and their ids hidden where they must be."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privet.components.report.worst_clients import MOST, find_worst_clients, hidden_id

ACCURACY = {"metric": "accuracy", "higher_is_better": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two files with twelve clients: client i has accuracy i / 20 and a mae of i."""
    place = tmp_path_factory.mktemp("evaluation")
    (place / "per_client").mkdir()
    for part, clients in enumerate((range(6), range(6, 12))):
        rows = {
            "client_id": [f"client-{i}" for i in clients],
            "examples": [i + 1 for i in clients],
            "float.accuracy": [0.5 for _ in clients],
            "int8.accuracy": [None if i == 3 else i / 20 for i in clients],
            "float.mae": [1.0 for _ in clients],
            "int8.mae": [float(i) for i in clients],
        }
        pq.write_table(pa.table(rows), place / "per_client" / f"clients-{part}.parquet")
    return str(place)


def test_lowest_come_first_and_an_undefined_metric_is_not_among_them(folder: str) -> None:
    rows = find_worst_clients(folder, ACCURACY, "int8", key=None)
    assert rows[0] == {"client_id": "client-0", "examples": 1, "float": 0.5, "compressed": 0.0}
    assert [row["examples"] for row in rows] == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert len(rows) == MOST


def test_highest_come_first_where_less_is_better(folder: str) -> None:
    error = {"metric": "mae", "higher_is_better": False}
    rows = find_worst_clients(folder, error, "int8", key=None)
    assert [row["compressed"] for row in rows] == list(range(11, 1, -1))


def test_key_hides_ids_and_finds_them_again(folder: str) -> None:
    key = bytes(32)
    hidden = [row["client_id"] for row in find_worst_clients(folder, ACCURACY, "int8", key)]
    assert not [one for one in hidden if "client" in one]
    found = {hidden_id(f"client-{i}", key): i for i in range(12)}
    assert [found[one] for one in hidden][:3] == [0, 1, 2]
    assert not found.keys() & {hidden_id(f"client-{i}", b"other") for i in range(12)}
