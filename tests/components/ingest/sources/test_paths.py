"""Which files patterns name, and what they are called."""

from pathlib import Path

import pytest

from privet.components.ingest.sources import paths
from privet.components.shared.errors import DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.csv",
        "b.csv",
        "h1/x.csv",
        "h2/x.csv",
        "h2/deep/x.csv",
        "span-1/x.csv",
        "span-02/x.csv",
        "span-2/y.csv",
        "span-x/x.csv",
        "days/1/part-1.csv",
        "days/1/part-2.csv",
        "h[1]/x.csv",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(tree: Path, *patterns: str) -> list[str]:
    return [file.name for file in paths.find(f"{tree}/{pattern}" for pattern in patterns)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a.csv"], ["a.csv"]),
        (["*.csv"], ["a.csv", "b.csv"]),
        (["[!a].csv"], ["b.csv"]),
        (["h?/x.csv"], ["h1/x.csv", "h2/x.csv"]),
        (["h2/**/x.csv"], ["deep/x.csv", "x.csv"]),
        (["h2/*.csv", "h2/deep/*.csv"], ["deep/x.csv", "h2/x.csv"]),
        (["h1/x.csv", "h2/x.csv"], ["h1/x.csv", "h2/x.csv"]),
        (["*.csv", "a.csv"], ["a.csv", "b.csv"]),
    ],
)
def test_name_is_the_path_below_the_fixed_part(
    tree: Path, patterns: list[str], expected: list[str]
) -> None:
    assert names(tree, *patterns) == expected


def test_moved_files_keep_their_names(tree: Path) -> None:
    before = names(tree, "h1/x.csv", "h2/**/x.csv")
    moved = tree.rename(tree.with_name("elsewhere"))
    assert names(moved, "h1/x.csv", "h2/**/x.csv") == before


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("span-{SPAN}/*.csv", {("span-02/x.csv", 2), ("span-1/x.csv", 1), ("span-2/y.csv", 2)}),
        ("span-{SPAN}/x.csv", {("span-02/x.csv", 2), ("span-1/x.csv", 1)}),
        ("days/{SPAN}/part-{SPAN}.csv", {("1/part-1.csv", 1)}),
        ("days/{SPAN}/**", {("1/part-1.csv", 1), ("1/part-2.csv", 1)}),
        ("days/{SPAN}/part-[!1]*", {("1/part-2.csv", 1)}),
        ("h?{SPAN}?/x.csv", {("h[1]/x.csv", 1)}),
    ],
)
def test_span_is_a_number(tree: Path, pattern: str, expected: set[tuple[str, int]]) -> None:
    found = paths.find([f"{tree}/{pattern}"])
    assert {(file.name, file.span) for file in found} == expected


def test_pattern_without_a_file_says_where_relative_paths_start(tree: Path) -> None:
    for pattern in ("none*.csv", "span-{SPAN}0/x.csv"):
        with pytest.raises(DataError) as error:
            paths.find([f"{tree}/a.csv", f"{tree}/{pattern}"])
        assert str(error.value) == (
            f"no file matches data.files='{tree}/{pattern}'. Check the path (a relative one "
            "starts at the configuration file's folder) and that the data have been written."
        )


def test_filesystem_that_beam_does_not_know_is_named() -> None:
    with pytest.raises(DataError, match=r"cannot look for data.files='nowhere://x/\*': ValueError"):
        paths.find(["nowhere://x/*"])


def test_relative_pattern_starts_here(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert [file.name for file in paths.find(["*.csv", "h1/*.csv"])] == ["a.csv", "b.csv", "x.csv"]
