"""Publishing: the next number, all of it or nothing, whoever else publishes or watches."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from privet.components.push.publish import newest_published, publish, servable_digest, versions

RECORD = "assets.extra/privet_push.json"
CONTENT = {f"variables/{index:02d}" for index in range(40)} | {"saved_model.pb", "model.tflite"}
FILES = CONTENT | {RECORD}


@pytest.fixture
def servable(tmp_path: Path) -> Path:
    return make_servable(tmp_path / "servable")


def make_servable(folder: Path, mark: str = "") -> Path:
    for name in CONTENT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((name + mark).encode() * 1000)
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_first_version_is_one_and_holds_every_file(servable: Path, tmp_path: Path) -> None:
    base = tmp_path / "serving" / "digits"
    published = publish(str(servable), str(base), "push-1")

    assert (published.version, published.path) == (1, base / "1")
    assert names(published.path) == FILES
    for name in CONTENT:
        assert (published.path / name).read_bytes() == (servable / name).read_bytes()
    assert [entry.name for entry in base.iterdir()] == ["1"]
    assert json.loads((published.path / RECORD).read_text()) == {
        "push_id": "push-1",
        "servable_sha256": servable_digest(str(servable)),
    }
    assert newest_published(str(base)) == published


def test_next_version_follows_the_largest_as_a_number(servable: Path, tmp_path: Path) -> None:
    for name in ("2", "10", "9", "abc", ".tmp-left", "11.old"):
        (tmp_path / "base" / name).mkdir(parents=True)

    assert publish(str(servable), str(tmp_path / "base"), "p").version == 11
    assert versions(tmp_path / "base") == [2, 9, 10, 11]


def test_what_a_dead_publisher_left_is_ignored(servable: Path, tmp_path: Path) -> None:
    left = tmp_path / "base" / ".tmp-0123"
    left.mkdir(parents=True)
    (left / "half").touch()

    assert publish(str(servable), str(tmp_path / "base"), "p").version == 1
    assert left.is_dir()


@pytest.mark.timeout(20)
def test_file_with_a_number_for_a_name_is_passed_over(servable: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").touch()

    assert publish(str(servable), str(tmp_path / "base"), "p").version == 2


def test_newest_version_is_not_published_again(servable: Path, tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    first = publish(str(servable), base, "first")

    assert publish(str(servable), base, "again") == first
    assert versions(tmp_path / "base") == [1]


def test_older_version_is_published_again_to_become_the_newest(
    servable: Path, tmp_path: Path
) -> None:
    base, other = str(tmp_path / "base"), str(make_servable(tmp_path / "other", "!"))
    published = [
        publish(str(servable), base, "a").version,
        publish(other, base, "b").version,
        publish(str(servable), base, "c").version,
    ]

    assert published == [1, 2, 3]
    newest = newest_published(base)
    assert newest is not None
    assert (newest.version, newest.push_id) == (3, "c")


def test_version_of_another_publisher_has_no_record(servable: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    assert newest_published(str(base)) is None
    shutil.copytree(servable, base / "7")
    newest = newest_published(str(base))

    assert newest is not None
    assert (newest.version, newest.push_id, newest.digest) == (7, "", "")
    assert publish(str(servable), str(base), "p").version == 8


def test_digest_sees_names_contents_and_where_files_end(tmp_path: Path) -> None:
    digests = set()
    for index, files in enumerate(
        [{"a": "xy", "b": "z"}, {"a": "x", "b": "yz"}, {"a": "xy", "c": "z"}, {"a": "xyz"}]
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        digests.add(servable_digest(str(folder)))
    assert len(digests) == 4


def test_failed_copy_leaves_nothing(servable: Path, tmp_path: Path) -> None:
    (servable / "dangling").symlink_to(tmp_path / "nowhere")  # copying it fails half-way
    with pytest.raises((OSError, shutil.Error)):
        publish(str(servable), str(tmp_path / "base"), "p")
    assert list((tmp_path / "base").iterdir()) == []


def test_base_path_that_is_a_file_is_an_error(servable: Path, tmp_path: Path) -> None:
    (tmp_path / "base").touch()
    with pytest.raises(OSError, match="base"):
        publish(str(servable), str(tmp_path / "base"), "p")


def test_versions_are_distinct_and_never_seen_in_part(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    servables = [str(make_servable(tmp_path / f"s{mark}", str(mark))) for mark in range(24)]
    finished, seen, partial = threading.Event(), set(), []

    def watch() -> None:
        while not finished.is_set():
            for path in base.iterdir():
                if path.name.isdecimal():
                    seen.add(path.name)
                    if names(path) != FILES:
                        partial.append(path.name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as publishers:
            results = list(publishers.map(lambda one: publish(one, str(base), "p"), servables))
    finally:
        finished.set()
        watcher.join()

    assert sorted(published.version for published in results) == list(range(1, 25))
    assert partial == []
    assert seen  # the watcher did look
    assert sorted(int(path.name) for path in base.iterdir()) == list(range(1, 25))
