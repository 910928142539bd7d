"""Which versions of a model are wanted, and in which order they are loaded and unloaded.

Both are pure functions over sets of version numbers; `versions` acts on what they say. They are
TF Serving's: its version policies, and its AvailabilityPreservingPolicy.
"""

from collections.abc import Collection, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Latest:
    """The `count` newest versions; 0 counts as 1, as in TF Serving."""

    count: int = 1


@dataclass(frozen=True)
class All:
    """Every version."""


@dataclass(frozen=True)
class Specific:
    """These versions, as far as they exist."""

    versions: frozenset[int]


Policy = Latest | All | Specific

NEWEST = Latest()


@dataclass(frozen=True)
class Load:
    """The next thing to do is to load this version."""

    version: int


@dataclass(frozen=True)
class Unload:
    """The next thing to do is to take this version out of service."""

    version: int


def aspired_versions(policy: Policy, found: Collection[int]) -> frozenset[int]:
    """The versions to serve, of those found.

    >>> sorted(aspired_versions(Latest(2), {1, 5, 7}))
    [5, 7]
    >>> sorted(aspired_versions(Specific(frozenset({1, 9})), {1, 5, 7}))
    [1]
    """
    match policy:
        case Latest(count):
            return frozenset(sorted(found)[-max(count, 1) :])
        case All():
            return frozenset(found)
        case Specific(versions):
            return versions & frozenset(found)


def next_action(aspired: Set[int], ready: Set[int], loadable: Set[int]) -> Load | Unload | None:
    """The next step from the versions that serve to those that should.

    Newer versions are loaded first. A version that should go stays until one that should be there
    serves, so that the model is never without one while it has one to offer.

    Args:
      aspired: the versions to serve.
      ready: the versions that serve.
      loadable: the versions worth a try to load; not those that failed a moment ago.

    Returns:
      None if there is nothing to do (now).
    """
    surplus = ready - aspired
    if surplus and (not aspired or aspired & ready or len(surplus) > 1):
        return Unload(min(surplus))
    missing = (aspired & loadable) - ready
    return Load(max(missing)) if missing else None
