"""Files of an artifact: whole or not there, and digests that see every byte."""

import os
import stat
from pathlib import Path

import pytest

from privet.components.shared import files
from privet.components.shared.errors import StoreError


def test_bytes_read_back_and_leave_no_temporary_file(tmp_path: Path) -> None:
    path = files.join(str(tmp_path), "new", "folder", "a.bin")
    files.write_bytes(path, b"\x00\xff" * 3)

    assert files.read_bytes(path) == b"\x00\xff" * 3
    assert [p.name for p in Path(path).parent.iterdir()] == ["a.bin"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": [2, "ü"]})

    assert files.read_json(path) == {"a": [2, "ü"]}


def test_gzip_ending_does_not_compress(tmp_path: Path) -> None:
    path = str(tmp_path / "a.gz")
    files.write_bytes(path, b"plain")

    assert Path(path).read_bytes() == b"plain"
    assert files.read_bytes(path) == b"plain"


def test_secret_is_the_owners_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "salt"
    for content in (b"one", b"two"):
        files.write_secret(str(path), content)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_secret_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    files.create_secret(str(path), b"first")
    with pytest.raises(FileExistsError):
        files.create_secret(str(path), b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_private_folder_may_exist(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        files.make_private_folder(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*gone\.json.*Was the artifact moved"):
        files.read_json(str(tmp_path / "gone.json"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_without_such_a_number_is_not_written(tmp_path: Path, number: float) -> None:
    with pytest.raises(StoreError, match="would hold a number that is not finite"):
        files.write_json(str(tmp_path / "a.json"), {"a": number})
    assert list(tmp_path.iterdir()) == []


def test_match_gives_files_only_sorted(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()

    assert files.match(f"{tmp_path}/*.csv") == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]
    assert files.match(f"{tmp_path}/a.csv") == [f"{tmp_path}/a.csv"]
    assert files.match(f"{tmp_path}/none*") == []


def test_content_digest_sees_a_byte_of_the_same_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"client,x\na,1\n")
    stat = path.stat()
    before = files.content_digest((str(path),))
    path.write_bytes(b"client,x\na,2\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert files.content_digest((str(path),)) != before


def test_content_digest_does_not_depend_on_how_files_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    one = files.content_digest((f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"))

    assert one == files.content_digest((f"{tmp_path}/*.csv", f"{tmp_path}/a.csv"))
    (tmp_path / "c.csv").touch()
    assert one != files.content_digest((f"{tmp_path}/*.csv",))


def test_content_digest_tells_where_one_file_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("xy")
    (tmp_path / "b").write_text("z")
    one = files.content_digest((f"{tmp_path}/*",))
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("yz")

    assert files.content_digest((f"{tmp_path}/*",)) != one


def test_source_digest_ignores_compiled_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    before = files.source_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"compiled")

    assert files.source_digest(tmp_path) == before
    (tmp_path / "a.py").write_text("a = 2\n")
    assert files.source_digest(tmp_path) != before
