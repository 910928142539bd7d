"""The versions of one model: watch its directory, load, warm up, swap, let requests finish, drop.

`version_policy` says which versions should serve and what to do next; this does it. A new version
is loaded and warmed up before the old one goes; if it cannot be loaded the old one stays.
"""

import enum
import threading
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from privet.components.shared.errors import ServingError
from privet.serving.engine import Engine
from privet.serving.retries import Failure, RetryPolicy, after_failure, identity_of, may_try
from privet.serving.status import Code, RequestError
from privet.serving.version_directories import find_versions, list_versions, none_found
from privet.serving.version_policy import (
    Load,
    Policy,
    Unload,
    aspired_versions,
    next_action,
)


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


@dataclass
class _Loaded:
    """A loaded version and the requests that use it."""

    servable: Servable
    requests: int = 0
    retired: bool = False


class Loan:
    """A version lent to a request: the `with` statement gives it back at its end."""

    __slots__ = ("_loaded", "_versions")

    def __init__(self, versions: "ModelVersions", loaded: _Loaded) -> None:
        self._versions = versions
        self._loaded = loaded

    def __enter__(self) -> Servable:
        return self._loaded.servable

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._versions._take_back(self._loaded)


class ModelVersions:
    """The versions of one model, from `start` to `stop`."""

    def __init__(
        self,
        model_name: str,
        base_path: Path,
        load: Callable[[Path, int], Engine],
        *,
        policy: Policy,
        poll_seconds: float,
        retry: RetryPolicy,
        announce: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Prepares to watch a directory; nothing is read yet.

        Args:
          model_name: the model's name in requests.
          base_path: holds one directory for each version, named by its number.
          load: loads and warms up the version in a directory; a ServingError says why not.
          policy: which of the versions to serve.
          poll_seconds: the time between two looks at the directory; 0 looks once, and again when
            the policy changes.
          retry: what to do about versions that failed to load.
          announce: told, in a line each, what changes after the start.
        """
        self.model_name = model_name
        self.base_path = base_path
        self._load = load
        self._policy = policy
        self._poll_seconds = poll_seconds
        self._retry = retry
        self._announce = announce
        self._lock = threading.Lock()  # guards the four below
        self._loaded: dict[int, _Loaded] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._serving: _Loaded | None = None  # the newest that is not retired
        self._stopping = False
        self._failures: dict[int, Failure] = {}
        self._started = False
        self._polling = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Servable:
        """Loads the versions to serve, then watches for others.

        Returns:
          The newest version that serves; others may have failed to load.

        Raises:
          ServingError: there is no such version, or none can be loaded.
        """
        self.wanted(self._policy)
        self.poll()
        with self._lock:
            serving = self._serving
        statuses = self.statuses()
        if not statuses:  # they went away a moment ago
            raise ServingError(none_found(self.model_name, self.base_path, self._policy, {}))
        if serving is None:
            newest = statuses[0]
            raise ServingError(
                f"Wanted to serve model {self.model_name!r} from {self.base_path}; version "
                f"{newest.version}, its newest, did not load: {newest.message} Repair or remove "
                f"{self.base_path / str(newest.version)}."
            )
        self._started = True
        for status in statuses:
            if status.state is State.END:
                self._tell(f"version {status.version} failed to load: {status.message}")
        self._thread = threading.Thread(
            target=self._watch, name=f"versions-{self.model_name}", daemon=True
        )
        self._thread.start()
        return serving.servable

    def wanted(self, policy: Policy) -> frozenset[int]:
        """The versions that a policy would serve now.

        Raises:
          ServingError: there is none, or the base path cannot be read.
        """
        found = find_versions(self.base_path)
        if wanted := aspired_versions(policy, found):
            return wanted
        raise ServingError(none_found(self.model_name, self.base_path, policy, found))

    def follow(self, policy: Policy) -> None:
        """Serves by another policy from now on; the watching thread loads and drops."""
        self._policy = policy
        self._wake.set()

    def stop(self, wait: bool = True) -> None:
        """Stops watching and drops every version, each when its last request is done.

        Args:
          wait: return when the watching thread has ended, which may be in the middle of a load.
        """
        with self._lock:
            self._stopping = True
            versions = list(self._loaded)
        self._wake.set()
        self._retire(versions)
        if wait and self._thread is not None:
            self._thread.join()

    def use(self, version: int | None = None) -> Loan:
        """Lends a version, by default the newest; it stays loaded until given back.

        Raises:
          RequestError: NOT_FOUND, there is no such version that is AVAILABLE.
        """
        with self._lock:
            loaded = self._serving if version is None else self._loaded.get(version)
            if loaded is not None and not loaded.retired:
                loaded.requests += 1
                return Loan(self, loaded)
        raise servable_not_found(self.model_name, version)

    def servables(self) -> tuple[Servable, ...]:
        """The versions that are AVAILABLE, the newest first."""
        with self._lock:
            return tuple(self._loaded[v].servable for v in sorted(self._ready(), reverse=True))

    def statuses(self) -> tuple[VersionStatus, ...]:
        """Every version seen so far, the newest first; those that were dropped too."""
        with self._lock:
            return tuple(self._statuses[v] for v in sorted(self._statuses, reverse=True))

    def poll(self) -> None:
        """Looks at the directory once, and loads and drops what has to be.

        While the base path cannot be read nothing changes: storage may be away for a moment.
        """
        with self._polling:
            try:
                found = find_versions(self.base_path)
            except ServingError:
                return
            aspired = aspired_versions(self._policy, found)
            self._failures = {v: f for v, f in self._failures.items() if v in aspired}
            loadable = {
                version
                for version in aspired
                if may_try(self._failures.get(version), identity_of(found[version]), self._retry)
            }
            replaced: set[int] = set()
            while not self._stopping:
                with self._lock:
                    ready = self._ready()
                match next_action(aspired, ready, loadable):
                    case Load(version):
                        loadable.discard(version)  # one try at each look
                        if self._try_load(version, found[version], ready - aspired, ready):
                            replaced |= ready - aspired
                    case Unload(version):
                        self._retire([version])
                        if version not in replaced:
                            left = "" if len(ready) > 1 else ", and none is left"
                            self._tell(f"version {version} no longer serves{left}")
                    case None:
                        return

    def _watch(self) -> None:
        """Polls until stopped."""
        while True:
            self._wake.wait(self._poll_seconds or None)
            self._wake.clear()
            if self._stopping:
                return
            try:
                self.poll()
            except Exception as error:
                # Whatever it is, the versions that serve must go on, and the next poll may work.
                self._tell(f"looking for versions failed: {error}")

    def _try_load(self, version: int, path: Path, replaced: Set[int], ready: Set[int]) -> bool:
        """Loads a version and lets it serve; False if it fails."""
        self._set_status(VersionStatus(version, State.START))
        self._set_status(VersionStatus(version, State.LOADING))
        identity = identity_of(path)
        try:
            engine = self._load(path, version)
        except Exception as error:
            # Loading runs the model's own code paths; no failure of it may stop the server.
            self._failures[version] = after_failure(self._failures.get(version), identity)
            code = error.code if isinstance(error, RequestError) else Code.UNKNOWN
            self._set_status(VersionStatus(version, State.END, code, str(error)))
            self._tell(
                f"version {version} failed to load, {list_versions(ready) or 'nothing'} goes on "
                f"serving: {error}"
            )
            return False
        self._failures.pop(version, None)
        loaded = _Loaded(Servable(self.model_name, version, engine))
        with self._lock:
            self._loaded[version] = loaded
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
            self._serving = self._newest()
            stopping = self._stopping
        if stopping:
            self._retire([version])
            return False
        if replaced:
            place = f", in place of {list_versions(replaced)}"
        else:
            place = f", beside {list_versions(ready)}" if ready else ""
        self._tell(f"version {version} ({engine.kind}) serves{place}")
        return True

    def _retire(self, versions: Iterable[int]) -> None:
        """Takes versions out of service at once; each is dropped when its last request is done."""
        with self._lock:
            retired = [
                self._loaded[version]
                for version in versions
                if version in self._loaded and not self._loaded[version].retired
            ]
            for loaded in retired:
                loaded.retired = True
                version = loaded.servable.version
                self._statuses[version] = replace(self._statuses[version], state=State.UNLOADING)
            self._serving = self._newest()
            idle = [loaded for loaded in retired if loaded.requests == 0]
        for loaded in idle:
            self._end(loaded)

    def _take_back(self, loaded: _Loaded) -> None:
        """Ends a loan; the last one of a retired version ends the version."""
        with self._lock:
            loaded.requests -= 1
            last = loaded.retired and loaded.requests == 0
        if last:
            self._end(loaded)

    def _end(self, loaded: _Loaded) -> None:
        """Drops a version that nobody uses."""
        version = loaded.servable.version
        loaded.servable.engine.close()
        with self._lock:
            if self._loaded.get(version) is loaded:
                del self._loaded[version]
                self._statuses[version] = VersionStatus(version, State.END)

    def _ready(self) -> frozenset[int]:
        """The versions that serve; the caller holds the lock."""
        return frozenset(v for v, loaded in self._loaded.items() if not loaded.retired)

    def _newest(self) -> _Loaded | None:
        """The newest version that serves; the caller holds the lock."""
        ready = self._ready()
        return self._loaded[max(ready)] if ready else None

    def _set_status(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status

    def _tell(self, what: str) -> None:
        """Announces what changed, once the model has started."""
        if self._started:
            self._announce(f"Model {self.model_name!r}: {what}")


def servable_not_found(model_name: str, version: int | None) -> RequestError:
    """The error for a request of a model or version that does not serve."""
    wanted = f"Latest({model_name})" if version is None else f"Specific({model_name}, {version})"
    return RequestError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
