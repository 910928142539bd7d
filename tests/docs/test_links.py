"""README.md, CONTRIBUTING.md and docs/: links lead somewhere, and named files and targets exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`(?P<code>[^`\n]+)`")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)
_FOLDERS = r"(?:components|pipeline|serving|examples|tests|docs|scripts|benchmarks|\.ci)"
_PATH = re.compile(rf"{_FOLDERS}/[\w./-]*")
_PLACES = re.compile(r"(?P<names>`\w+`(?: and `\w+`)*) in `(?P<file>[\w/]+\.py)`")
_TARGET = re.compile(r"make (?P<target>[a-z]+)")

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    titles = (match["title"] for match in _HEADING.finditer(prose(path)))
    return {
        re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-")
        for title in titles
    }


@documents
def test_relative_links_resolve(path: Path) -> None:
    for match in _LINK.finditer(prose(path)):
        file, _, anchor = match["target"].partition("#")
        if "://" in match["target"] or file.startswith("mailto:"):
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), match["target"]
        if anchor:
            assert anchor in anchors(target), match["target"]


@documents
def test_named_files_exist(path: Path) -> None:
    for match in _CODE.finditer(prose(path)):
        named = _PATH.fullmatch(match["code"])
        # What a run writes has the same first names (serving/…), but is not in the repository.
        if named and Path(match["code"]).suffix in {".py", ".md", ".yaml", ".jinja", ".css"}:
            assert (ROOT / match["code"]).is_file(), match["code"]


@documents
def test_named_functions_and_classes_are_where_the_document_says(path: Path) -> None:
    for match in _PLACES.finditer(re.sub(r"\s+", " ", prose(path))):
        source = (ROOT / match["file"]).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", match["names"]):
            assert re.search(rf"^(?:def|class) {name}\b|^{name} = ", source, re.M), match[0]


@documents
def test_named_files_at_the_root_exist(path: Path) -> None:
    names = {"Makefile", "Dockerfile", "requirements.in", "requirements.txt", "setup.py"}
    names |= {"requirements-dev.in", "requirements-dev.txt", "pyproject.toml", "setup.cfg"}
    for name in names & {match["code"] for match in _CODE.finditer(prose(path))}:
        assert (ROOT / name).is_file(), name


@documents
def test_named_make_targets_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {
        match["target"]
        for code in _CODE.finditer(prose(path))
        if (match := _TARGET.match(code["code"]))
    }
    assert named <= targets


def test_install_lists_every_make_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    helped = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)) - {"help"}
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `make ([a-z]+)` \|", text, re.MULTILINE)) == helped


def test_index_names_every_page() -> None:
    index = prose(ROOT / "docs" / "index.md")
    linked = {match["target"] for match in _LINK.finditer(index)}
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages <= linked
