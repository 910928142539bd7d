"""Finding the files that patterns name, and giving each a name that stays when they are moved."""

import collections
import dataclasses
import re
from collections.abc import Iterable

from privet.components.ingest.config import SPAN
from privet.components.shared import files
from privet.components.shared.errors import DataError

_WILDCARD = re.compile(rf"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|{re.escape(SPAN)}")
_ANY = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclasses.dataclass(frozen=True)
class Found:
    """A file that a pattern names.

    Attributes:
      path: where it is.
      name: its path below the fixed part of the pattern, with more of the path where two files
        would be called alike.
      span: the number in the place of {SPAN}, if the pattern has one.
    """

    path: str
    name: str
    span: int | None = None


def find(patterns: Iterable[str]) -> list[Found]:
    """The files that patterns name, each once, sorted by path.

    Raises:
      DataError: a pattern matches nothing.
    """
    found: dict[str, Found] = {}
    for pattern in patterns:
        matched = _match(pattern)
        if not matched:
            raise DataError(
                f"no file matches data.files={pattern!r}. Check the path (a relative one starts "
                "at the configuration file's folder) and that the data have been written."
            )
        for file in matched:
            found.setdefault(file.path, file)
    return _named_apart([found[path] for path in sorted(found)])


def _match(pattern: str) -> list[Found]:
    fixed = _fixed_part(pattern)
    regex = re.compile(_regex(pattern), re.DOTALL) if SPAN in pattern else None
    found: list[Found] = []
    try:
        matched = files.match(pattern.replace(SPAN, "*"))
    except Exception as error:  # each filesystem has errors of its own
        raise DataError(
            f"cannot look for data.files={pattern!r}: {type(error).__name__}: {error}. Check the "
            "path, your permission, and that Beam's package for this filesystem is installed."
        ) from error
    for path in matched:
        match = regex.fullmatch(path) if regex else None
        if regex is None or match:
            found.append(Found(path, path[fixed:], int(match["span"]) if match else None))
    return found


def _fixed_part(pattern: str) -> int:
    """Length of the folder that a pattern names without a wildcard, with its last slash."""
    wildcard = _WILDCARD.search(pattern)
    return pattern.rfind("/", 0, wildcard.start() if wildcard else None) + 1


def _regex(pattern: str) -> str:
    """What a path must look like; the digits of all {SPAN} must be the same."""
    parts: list[str] = []
    end = 0
    seen = False
    for match in _WILDCARD.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        end = match.end()
        wildcard = match[0]
        if wildcard == SPAN:
            parts.append("(?P=span)" if seen else "(?P<span>[0-9]+)")
            seen = True
        elif wildcard.startswith("["):
            inside = wildcard[1:-1].replace("\\", "\\\\")
            parts.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
        else:
            parts.append(_ANY[wildcard])
    return "".join(parts) + re.escape(pattern[end:])


def _named_apart(found: list[Found]) -> list[Found]:
    """Gives files of the same name a longer one, folder by folder."""
    names = [file.name for file in found]
    while len(set(names)) < len(names):
        counts = collections.Counter(names)
        names = [
            _longer(name, file.path) if counts[name] > 1 else name
            for name, file in zip(names, found, strict=True)
        ]
    return [dataclasses.replace(file, name=name) for file, name in zip(found, names, strict=True)]


def _longer(name: str, path: str) -> str:
    """The name with one more folder of the path in front, or the whole path."""
    above = path[: len(path) - len(name)].rstrip("/")
    return path[above.rfind("/") + 1 :]
