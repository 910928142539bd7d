"""Checkpoints and the journal on disk: what is there after a kill, and what is damaged."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from privet.components.shared.errors import PrivacyError, StoreError
from privet.components.train.checkpoint import Checkpoint, Checkpoints, fingerprint_of
from privet.components.train.history import Round

NAME, OTHER = "0123456789abcdef" * 2, "f" * 32
ROUNDS = [
    Round(1, 3, 0.5, 1.25, {"accuracy": 0.1 + 0.2}, 12),
    Round(2, 0, 0.25, None, None, None),
]


def open_state(folder: Path, *, private: bool = True, name: str = NAME) -> Checkpoints:
    return Checkpoints(str(folder), name, private=private)


def started(folder: Path, rounds: int) -> Checkpoints:
    kept = open_state(folder)
    for number in range(1, rounds + 1):
        kept.start_round(number, {})
    return kept


def test_checkpoint_comes_back_as_it_was_in_another_process(tmp_path: Path) -> None:
    kept = started(tmp_path, 3)
    kept.save(Checkpoint(ROUNDS, 3, [b"first\n", b"of two"]))
    kept.save(Checkpoint([*ROUNDS, Round(3, 1, 1.0, None, None)], 3, [b"\x00second\n"]))

    found = open_state(tmp_path)
    assert found.started == 3
    assert found.load() == Checkpoint([*ROUNDS, Round(3, 1, 1.0, None, None)], 3, [b"\x00second\n"])
    assert [path.name for path in (tmp_path / NAME).glob("checkpoint*")] == [
        "checkpoint-0000000003"
    ]


def test_only_the_owner_may_look_at_realised_cohorts(tmp_path: Path) -> None:
    started(tmp_path, 2).save(Checkpoint(ROUNDS, 2, [b""]))

    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / NAME / "checkpoint-0000000002").stat().st_mode) == 0o600


def test_new_run_has_nothing(tmp_path: Path) -> None:
    found = open_state(tmp_path / "not" / "there")
    assert found.load() is None
    assert found.started == 0


def test_folder_whose_name_looks_like_a_glob_is_that_folder(tmp_path: Path) -> None:
    started(tmp_path / "run[1]", 2).save(Checkpoint(ROUNDS, 2, [b"state"]))

    found = open_state(tmp_path / "run[1]")
    assert found.started == 2
    assert found.load() is not None


def test_rest_of_a_write_that_was_killed_is_no_checkpoint(tmp_path: Path) -> None:
    started(tmp_path, 2).save(Checkpoint(ROUNDS, 2, [b"state"]))
    rest = tmp_path / NAME / "checkpoint-0000000003.tmp-1"
    rest.write_bytes(b"half")

    found = open_state(tmp_path).load()
    assert found is not None
    assert found.states == [b"state"]
    assert not rest.exists()


def test_newest_checkpoint_counts_where_a_kill_left_two(tmp_path: Path) -> None:
    kept = started(tmp_path, 2)
    kept.save(Checkpoint(ROUNDS[:1], 1, [b"old"]))
    old = tmp_path / NAME / "checkpoint-0000000001"
    content = old.read_bytes()
    kept.save(Checkpoint(ROUNDS, 2, [b"new"]))
    old.write_bytes(content)

    found = open_state(tmp_path).load()
    assert found is not None
    assert found.states == [b"new"]


@pytest.mark.parametrize(("private", "error"), [(True, PrivacyError), (False, StoreError)])
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped"])
def test_damaged_checkpoint_is_an_error_and_no_new_start(
    tmp_path: Path, private: bool, error: type[Exception], damage: str
) -> None:
    started(tmp_path, 2).save(Checkpoint(ROUNDS, 2, [b"state"]))
    path = tmp_path / NAME / "checkpoint-0000000002"
    content = path.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"truncated": content[:-1], "empty": b"", "flipped": flipped}[damage])

    with pytest.raises(error, match=r"checkpoint-0000000002 is damaged") as raised:
        open_state(tmp_path, private=private).load()
    assert ("stay spent" in str(raised.value)) == private


def test_rounds_count_before_they_begin_and_also_if_their_entry_was_cut_short(
    tmp_path: Path,
) -> None:
    started(tmp_path, 2)
    (tmp_path / NAME / "journal" / "0000000003").touch()  # created, but killed before the content

    found = open_state(tmp_path)
    assert found.stretches == [2, 1]  # as a stretch of its own it counts for most
    found.start_round(3, {}, anew=True)
    assert open_state(tmp_path).stretches == [2, 1, 1]


def test_journal_tells_what_each_round_spends_and_where_stretches_begin(tmp_path: Path) -> None:
    kept = open_state(tmp_path)
    for number, anew in ((1, False), (2, False), (2, True), (3, False), (2, True)):
        kept.start_round(number, {"kind": "gaussian", "noise_multiplier": 1.5}, anew=anew)

    assert open_state(tmp_path).stretches == kept.stretches == [2, 2, 1]
    assert json.loads((tmp_path / NAME / "journal" / "0000000004").read_bytes()) == {
        "round": 3,
        "stretch": 2,
        "kind": "gaussian",
        "noise_multiplier": 1.5,
    }


@pytest.mark.parametrize("content", [b"started\n", b'{"stretch": 3}', b'{"stretch": 0}', b"\xff"])
def test_damaged_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    started(tmp_path, 2)
    (tmp_path / NAME / "journal" / "0000000002").write_bytes(content)

    with pytest.raises(PrivacyError, match=r"0000000002 is damaged: it does not say which round"):
        open_state(tmp_path)


def test_journal_with_fewer_rounds_than_the_checkpoint_is_refused(tmp_path: Path) -> None:
    started(tmp_path, 3).save(Checkpoint(ROUNDS, 3, [b"state"]))
    (tmp_path / NAME / "journal" / "0000000003").unlink()

    with pytest.raises(PrivacyError, match=r"has 2 entries, but the checkpoint .* counts 3"):
        open_state(tmp_path).load()
    assert open_state(tmp_path, private=False).load() is not None  # there is nothing to count


def test_journal_with_a_gap_is_refused(tmp_path: Path) -> None:
    started(tmp_path, 3)
    (tmp_path / NAME / "journal" / "0000000002").unlink()

    with pytest.raises(PrivacyError, match=r"no entry 0000000002, but others"):
        open_state(tmp_path)


def test_second_process_of_the_same_run_is_stopped_before_it_draws_noise(tmp_path: Path) -> None:
    one, other = started(tmp_path, 1), open_state(tmp_path)
    one.start_round(2, {})

    with pytest.raises(PrivacyError, match="another process is training the same run"):
        other.start_round(2, {})
    assert open_state(tmp_path).started == 2


def test_of_other_runs_those_stay_that_have_spent_something(tmp_path: Path) -> None:
    started(tmp_path, 3).save(Checkpoint(ROUNDS, 2, [b"state"]))
    open_state(tmp_path, name="2" * 32, private=False).save(Checkpoint(ROUNDS, 0, [b"state"]))
    later = open_state(tmp_path, name=OTHER)
    (tmp_path / "someone else's").mkdir()
    assert later.rounds_of_others() == 3
    later.clear_others()

    assert later.rounds_of_others() == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, OTHER, "someone else's"]
    again = open_state(tmp_path)
    assert (again.started, again.rounds_of_others()) == (3, 0)
    assert again.load() is not None


def test_fingerprint_tells_settings_and_clients_apart(
    write_store: Any, schema_of: Any, client: Any, tmp_path: Path
) -> None:
    def examples(clients: list[str]) -> str:
        rows = {"train": [client(name, [0], x=[[1]]) for name in clients]}
        return write_store(tmp_path / "examples", schema_of({"x": 1}, 2), rows)

    folder = examples(["ann", "bob"])
    first = fingerprint_of(folder, "a", "b")
    assert first == fingerprint_of(folder, "a", "b")
    assert len({first, fingerprint_of(folder, "ab", ""), fingerprint_of(folder, "a", "c")}) == 3
    assert first != fingerprint_of(examples(["ann", "eve"]), "a", "b")
