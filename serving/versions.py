"""The versions of one model: watch its directory, load, warm up, swap, let requests finish, drop.

Policy: the newest directory is served (TF Serving's `latest`, one version). A new version is
loaded and warmed up before the old one goes; if it cannot be loaded the old one stays.
"""

import contextlib
import enum
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from privet.components.shared.errors import ServingError
from privet.serving.engine import Engine
from privet.serving.status import Code, RequestError

_VERSION_NAME = re.compile(r"[0-9]+")
_INT64_MAX = 2**63 - 1


class State(enum.IntEnum):
    """The states of a version, numbered as in TF Serving's API."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What is known of one version; `code` and `message` tell why it ended, if not by plan."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclass(frozen=True)
class Servable:
    """A version that answers requests."""

    model_name: str
    version: int
    engine: Engine


@dataclass(frozen=True)
class RetryPolicy:
    """How often a version that failed to load is tried again, and after how many seconds."""

    maximum_retries: int = 5
    interval_seconds: float = 60.0


@dataclass
class _Loaded:
    """A loaded version and the requests that use it."""

    servable: Servable
    requests: int = 0
    retired: bool = False


@dataclass
class _Failure:
    """A version that could not be loaded."""

    directory_identity: tuple[int, int]
    attempts: int = 1
    tried_at: float = field(default_factory=time.monotonic)


class ModelVersions:
    """The versions of one model, from `start` to `stop`."""

    def __init__(
        self,
        model_name: str,
        base_path: Path,
        load: Callable[[Path, int], Engine],
        *,
        poll_seconds: float = 1.0,
        retry: RetryPolicy | None = None,
        announce: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Prepares to watch a directory; nothing is read yet.

        Args:
          model_name: the model's name in requests.
          base_path: holds one directory for each version, named by its number.
          load: loads and warms up the version in a directory; a ServingError says why not.
          poll_seconds: the time between two looks at the directory; 0 looks once.
          retry: what to do about versions that failed to load.
          announce: told, in a line each, what changes after the start.
        """
        self.model_name = model_name
        self.base_path = base_path
        self._load = load
        self._poll_seconds = poll_seconds
        self._retry = retry or RetryPolicy()
        self._announce = announce
        self._lock = threading.Lock()  # guards the three below
        self._loaded: dict[int, _Loaded] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._serving: _Loaded | None = None
        self._failures: dict[int, _Failure] = {}
        self._started = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Servable:
        """Loads the newest version, then watches for others.

        Returns:
          The version that serves.

        Raises:
          ServingError: there is no version, or it cannot be loaded.
        """
        if not find_versions(self.base_path):
            raise ServingError(
                f"Wanted at least one version of model {self.model_name!r}, a directory named by "
                f"a number, under {self.base_path}; found none (it has "
                f"{_listing(self.base_path)}). Export the model to {self.base_path / '1'}, or "
                "point --model_base_path at the directory above the versions."
            )
        self.poll()
        with self._lock:
            serving = self._serving
            newest = max(self._statuses.values(), key=lambda status: status.version)
        if serving is None:
            raise ServingError(
                f"Wanted to serve model {self.model_name!r} from {self.base_path}; version "
                f"{newest.version}, its newest, did not load: {newest.message} Repair or remove "
                f"{self.base_path / str(newest.version)}."
            )
        self._started = True
        if self._poll_seconds > 0:
            self._thread = threading.Thread(
                target=self._watch, name=f"versions-{self.model_name}", daemon=True
            )
            self._thread.start()
        return serving.servable

    def stop(self) -> None:
        """Stops watching and drops every version, each when its last request is done."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            versions = list(self._loaded)
        for version in versions:
            self._retire(version)

    @contextlib.contextmanager
    def use(self, version: int | None = None) -> Iterator[Servable]:
        """Lends a version, by default the newest; it stays loaded until given back.

        Raises:
          RequestError: NOT_FOUND, there is no such version that is AVAILABLE.
        """
        with self._lock:
            loaded = self._serving if version is None else self._loaded.get(version)
            if loaded is None or loaded.retired:
                wanted = (
                    f"Latest({self.model_name})"
                    if version is None
                    else f"Specific({self.model_name}, {version})"
                )
                raise RequestError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            loaded.requests += 1
        try:
            yield loaded.servable
        finally:
            with self._lock:
                loaded.requests -= 1
                last = loaded.retired and loaded.requests == 0
            if last:
                self._end(loaded)

    def statuses(self) -> tuple[VersionStatus, ...]:
        """Every version seen so far, the newest first; those that were dropped too."""
        with self._lock:
            return tuple(self._statuses[version] for version in sorted(self._statuses)[::-1])

    def poll(self) -> None:
        """Looks at the directory once, and loads and drops what has to be.

        While the base path cannot be read nothing changes: storage may be away for a moment.
        """
        try:
            found = find_versions(self.base_path)
        except ServingError:
            return
        if not found:
            with self._lock:
                versions = list(self._loaded)
            for version in versions:
                if self._retire(version):
                    self._announce(
                        f"Model {self.model_name!r}: version {version} is gone, none is left"
                    )
            return
        wanted = max(found)
        with self._lock:
            is_loaded = wanted in self._loaded and not self._loaded[wanted].retired
        if not is_loaded and (
            not self._may_try(wanted, found[wanted]) or not self._try_load(wanted, found[wanted])
        ):
            return
        with self._lock:
            others = [version for version in self._loaded if version != wanted]
        for version in others:
            self._retire(version)

    def _watch(self) -> None:
        """Polls until stopped."""
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception as error:
                # Whatever it is, the version that serves must go on, and the next poll may work.
                self._announce(f"Model {self.model_name!r}: looking for versions failed: {error}")

    def _may_try(self, version: int, path: Path) -> bool:
        """Whether to load a version: not again at once after a failure, unless it was replaced."""
        failure = self._failures.get(version)
        if failure is None or failure.directory_identity != _identity(path):
            return True
        waited = time.monotonic() - failure.tried_at
        return (
            failure.attempts <= self._retry.maximum_retries
            and waited >= self._retry.interval_seconds
        )

    def _try_load(self, version: int, path: Path) -> bool:
        """Loads a version and lets it serve; False if it fails."""
        self._set_status(VersionStatus(version, State.START))
        self._set_status(VersionStatus(version, State.LOADING))
        identity = _identity(path)
        try:
            engine = self._load(path, version)
        except Exception as error:
            # Loading runs the model's own code paths; no failure of it may stop the server.
            failure = self._failures.get(version)
            attempts = 1 + (failure.attempts if failure else 0)
            if failure and failure.directory_identity != identity:
                attempts = 1
            self._failures[version] = _Failure(identity, attempts)
            code = error.code if isinstance(error, RequestError) else Code.UNKNOWN
            self._set_status(VersionStatus(version, State.END, code, str(error)))
            with self._lock:
                serving = self._serving
            if self._started:
                left = f"version {serving.servable.version}" if serving else "nothing"
                self._announce(
                    f"Model {self.model_name!r}: version {version} failed to load, {left} goes "
                    f"on serving: {error}"
                )
            return False
        self._failures.pop(version, None)
        loaded = _Loaded(Servable(self.model_name, version, engine))
        with self._lock:
            before = self._serving
            self._loaded[version] = loaded
            self._serving = loaded
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
        if self._started:
            place = f", in place of version {before.servable.version}" if before else ""
            self._announce(
                f"Model {self.model_name!r}: version {version} ({engine.kind}) serves{place}"
            )
        return True

    def _retire(self, version: int) -> bool:
        """Takes a version out of service; it is dropped when its last request is done.

        Returns:
          False if there was nothing to do.
        """
        with self._lock:
            loaded = self._loaded.get(version)
            if loaded is None or loaded.retired:
                return False
            loaded.retired = True
            if self._serving is loaded:
                self._serving = None
            status = self._statuses[version]
            self._statuses[version] = replace(status, state=State.UNLOADING)
            idle = loaded.requests == 0
        if idle:
            self._end(loaded)
        return True

    def _end(self, loaded: _Loaded) -> None:
        """Drops a version that nobody uses."""
        version = loaded.servable.version
        loaded.servable.engine.close()
        with self._lock:
            if self._loaded.get(version) is loaded:
                del self._loaded[version]
                self._statuses[version] = VersionStatus(version, State.END)

    def _set_status(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status


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
            "one directory for each version, named by its number; check --model_base_path."
        ) from error
    return {
        int(child.name): child
        for child in children
        if _VERSION_NAME.fullmatch(child.name) and int(child.name) <= _INT64_MAX and child.is_dir()
    }


def _identity(path: Path) -> tuple[int, int]:
    """Tells a directory from another that took its place; (0, 0) if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)


def _listing(path: Path) -> str:
    """The first names in a directory, for an error."""
    names = sorted(child.name for child in path.iterdir())
    shown = ", ".join(names[:5]) or "nothing"
    return shown if len(names) <= 5 else f"{shown}, ... ({len(names)} names)"
