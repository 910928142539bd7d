"""Publishing: the next number, all of it or nothing, whoever else publishes or watches."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from privet.components.push.publish import publish

FILES = {f"variables/{index:02d}" for index in range(40)} | {"saved_model.pb", "model.tflite"}


@pytest.fixture
def servable(tmp_path: Path) -> Path:
    folder = tmp_path / "servable"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000)
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_first_version_is_one_and_holds_every_file(servable: Path, tmp_path: Path) -> None:
    base = tmp_path / "serving" / "digits"
    version, path = publish(str(servable), str(base))

    assert (version, path) == (1, base / "1")
    assert names(path) == FILES
    for name in FILES:
        assert (path / name).read_bytes() == (servable / name).read_bytes()
    assert [entry.name for entry in base.iterdir()] == ["1"]


def test_next_version_follows_the_largest_as_a_number(servable: Path, tmp_path: Path) -> None:
    for name in ("2", "10", "9", "abc", ".tmp-left", "11.old"):
        (tmp_path / "base" / name).mkdir(parents=True)

    assert publish(str(servable), str(tmp_path / "base"))[0] == 11


def test_what_a_dead_publisher_left_is_ignored(servable: Path, tmp_path: Path) -> None:
    left = tmp_path / "base" / ".tmp-0123"
    left.mkdir(parents=True)
    (left / "half").touch()

    assert publish(str(servable), str(tmp_path / "base"))[0] == 1
    assert left.is_dir()


@pytest.mark.timeout(20)
def test_file_with_a_number_for_a_name_is_passed_over(servable: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").touch()

    assert publish(str(servable), str(tmp_path / "base"))[0] == 2


def test_failed_copy_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(str(tmp_path / "gone"), str(tmp_path / "base"))
    assert list((tmp_path / "base").iterdir()) == []


def test_base_path_that_is_a_file_is_an_error(servable: Path, tmp_path: Path) -> None:
    (tmp_path / "base").touch()
    with pytest.raises(OSError, match="base"):
        publish(str(servable), str(tmp_path / "base"))


def test_versions_are_distinct_and_never_seen_in_part(servable: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
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
            results = list(publishers.map(lambda _: publish(str(servable), str(base)), range(24)))
    finally:
        finished.set()
        watcher.join()

    assert sorted(version for version, _ in results) == list(range(1, 25))
    assert partial == []
    assert seen  # the watcher did look
    assert sorted(int(path.name) for path in base.iterdir()) == list(range(1, 25))
