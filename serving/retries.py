"""When something on disk that could not be loaded is worth another try."""

import time
from dataclasses import dataclass
from pathlib import Path

Identity = tuple[int, ...]


@dataclass(frozen=True)
class RetryPolicy:
    """How often what failed to load is tried again, and after how many seconds."""

    maximum_retries: int
    interval_seconds: float


@dataclass(frozen=True)
class Failure:
    """The failed tries to load one file or directory, as it was at the last of them."""

    identity: Identity
    attempts: int
    tried_at: float


def after_failure(earlier: Failure | None, identity: Identity) -> Failure:
    """One more failed try, just now; what was replaced starts again from one."""
    same = earlier is not None and earlier.identity == identity
    return Failure(identity, earlier.attempts + 1 if earlier and same else 1, time.monotonic())


def may_try(failure: Failure | None, identity: Identity, policy: RetryPolicy) -> bool:
    """Whether to load it now: at once if it is new or was replaced, else as the policy says."""
    if failure is None or failure.identity != identity:
        return True
    return (
        failure.attempts <= policy.maximum_retries
        and time.monotonic() - failure.tried_at >= policy.interval_seconds
    )


def identity_of(path: Path) -> Identity:
    """Tells a file or directory from another that took its place; empty if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)
