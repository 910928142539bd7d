"""The version directories under a model's base path, and how to speak of them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from privet.components.shared.errors import ServingError
from privet.serving.version_policy import Policy

_VERSION_NAME = re.compile(r"[0-9]+")
_INT64_MAX = 2**63 - 1


def find_versions(base_path: Path) -> Mapping[int, Path]:
    """The version directories under a base path: those whose whole name is a number.

    Publishing writes under another name (`.tmp-...`) and renames, so that a directory with a
    number as its name is complete.

    Raises:
      ServingError: the base path cannot be read.
    """
    try:
        children = sorted(base_path.iterdir())
    except OSError as error:
        raise ServingError(
            f"Could not find base path {base_path}: {error.strerror}. Wanted a directory with "
            "one directory for each version, named by its number; check --model_base_path or the "
            "model's base_path."
        ) from error
    return {
        int(child.name): child
        for child in children
        if _VERSION_NAME.fullmatch(child.name) and int(child.name) <= _INT64_MAX and child.is_dir()
    }


def none_found(model_name: str, base_path: Path, policy: Policy, found: Mapping[int, Path]) -> str:
    """Says that a base path has no version to serve."""
    if found:
        return (
            f"Wanted a version of model {model_name!r} that its model_version_policy names, "
            f"{policy}, under {base_path}; found {list_versions(found)}. Change the policy, or "
            "publish such a version."
        )
    return (
        f"Wanted at least one version of model {model_name!r}, a directory named by a number, "
        f"under {base_path}; found none (it has {_listing(base_path)}). Export the model to "
        f"{base_path / '1'}, or point the base path at the directory above the versions."
    )


def list_versions(versions: Iterable[int]) -> str:
    """`version 3`, `versions 2 and 3`, or nothing."""
    texts = [str(version) for version in sorted(versions)]
    if len(texts) < 2:
        return "".join(f"version {text}" for text in texts)
    return f"versions {', '.join(texts[:-1])} and {texts[-1]}"


def _listing(path: Path) -> str:
    """The first names in a directory, for an error."""
    names = sorted(child.name for child in path.iterdir())
    shown = ", ".join(names[:5]) or "nothing"
    return shown if len(names) <= 5 else f"{shown}, ... ({len(names)} names)"
