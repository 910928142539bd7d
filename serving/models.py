"""The models of a server by name: how a request finds its version, and how the list is changed."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from privet.components.shared.errors import ServingError
from privet.serving.model_config import ModelConfig, check_labels, check_platforms, parse_models
from privet.serving.status import Code, RequestError, invalid_argument
from privet.serving.version_directories import list_versions
from privet.serving.versions import (
    Loan,
    ModelVersions,
    Servable,
    VersionStatus,
    servable_not_found,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelRequest:
    """Which model a request wants: by name, and at most one of version number and label."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class _Routes:
    """One configuration in force; replaced as a whole, so that a request sees all of one."""

    configs: Mapping[str, ModelConfig] = field(default_factory=dict)
    versions: Mapping[str, ModelVersions] = field(default_factory=dict)

    def lend(self, request: ModelRequest) -> Loan:
        """Lends the version that a request wants."""
        name, version = request.name, request.version
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        if request.label is not None:
            config = self.configs.get(name)
            version = config.labels.get(request.label) if config else None
            if version is None:
                raise invalid_argument(f"Unrecognized servable version label: {request.label}")
        versions = self.versions.get(name)
        if versions is None:
            raise servable_not_found(name, version)
        return versions.use(version)


class Models:
    """All models of a server, from the first `apply` to `stop`."""

    def __init__(
        self,
        make_versions: Callable[[ModelConfig], ModelVersions],
        *,
        allow_labels_for_unavailable: bool = False,
        announce: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Prepares to serve; there is no model yet.

        Args:
          make_versions: makes the versions of a model, not started.
          allow_labels_for_unavailable: accept new labels of versions that are not AVAILABLE.
          announce: told, in a line each, which models come and go after the first `apply`.
        """
        self._make_versions = make_versions
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._announce = announce
        self._routes = _Routes()
        self._removed: dict[str, ModelVersions] = {}
        self._applying = threading.Lock()
        self._started = False

    def use(self, request: ModelRequest) -> Loan:
        """Lends the version that a request wants, for one `with` statement.

        Raises:
          RequestError: there is no such model, version or label.
        """
        while True:
            routes = self._routes
            try:
                return routes.lend(request)
            except RequestError:
                # What is missing may have been replaced since: then look where it is now.
                if routes is self._routes:
                    raise

    def statuses(self, request: ModelRequest) -> tuple[VersionStatus, ...]:
        """The states of a model's versions, newest first, or of the one asked for.

        A label is ignored, as TF Serving does. A model that was removed keeps its statuses.

        Raises:
          RequestError: NOT_FOUND, there is no such model or version.
        """
        known: dict[int, VersionStatus] = {}
        for versions in (self._removed.get(request.name), self._routes.versions.get(request.name)):
            if versions is not None:
                known.update({status.version: status for status in versions.statuses()})
        if request.version is not None:
            if request.version not in known:
                raise RequestError(
                    Code.NOT_FOUND,
                    f"Could not find version {request.version} of model {request.name}",
                )
            return (known[request.version],)
        if not known:
            raise RequestError(
                Code.NOT_FOUND, f"Could not find any versions of model {request.name}"
            )
        return tuple(known[version] for version in sorted(known, reverse=True))

    def names(self) -> tuple[str, ...]:
        """The models that are configured, in the order of the configuration."""
        return tuple(self._routes.versions)

    def labels(self, name: str) -> Mapping[str, int]:
        """The labels of a model, label -> version; the version may not be AVAILABLE (yet)."""
        config = self._routes.configs.get(name)
        return dict(config.labels) if config else {}

    def servables(self, name: str) -> tuple[Servable, ...]:
        """The versions of a model that are AVAILABLE, the newest first."""
        versions = self._routes.versions.get(name)
        return versions.servables() if versions else ()

    def is_ready(self) -> bool:
        """Whether every model has a version that is AVAILABLE, so loaded and warmed up."""
        return self._started and all(v.servables() for v in self._routes.versions.values())

    def reload(self, config: Any) -> None:
        """Serves what a ModelServerConfig message lists, and nothing else.

        Returns when the models that it adds answer requests; what it changes in others follows.

        Raises:
          RequestError: the configuration is refused, and the one in force stays as it is.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        self.apply(parse_models(config) or ())

    def apply(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models and no others; returns when each new one answers requests.

        A model whose base path changed is a new one that takes the old one's place. Others that
        stay are served without a gap, and come to follow their policy.

        Raises:
          RequestError: it cannot be; nothing has changed.
        """
        with self._applying:
            before = self._routes
            check_platforms(before.configs, configs)
            kept = {
                config.name: before.versions[config.name]
                for config in configs
                if config.name in before.configs
                and before.configs[config.name].base_path == config.base_path
            }
            changed = [
                config
                for config in configs
                if config.name in kept and config.policy != before.configs[config.name].policy
            ]
            added = {c.name: self._make_versions(c) for c in configs if c.name not in kept}
            wanted = _all_or_none([partial(kept[c.name].wanted, c.policy) for c in changed])
            try:
                _all_or_none([one.start for one in added.values()])
                versions = {c.name: kept.get(c.name) or added[c.name] for c in configs}
                available = {n: {s.version for s in v.servables()} for n, v in versions.items()}
                for config, remaining in zip(changed, wanted, strict=True):
                    available[config.name] &= remaining
                check_labels(before.configs, configs, available, self._allow_labels_for_unavailable)
            except BaseException:
                for one in added.values():
                    one.stop()
                raise
            self._routes = _Routes({config.name: config for config in configs}, versions)
            for config in changed:
                kept[config.name].follow(config.policy)
            gone = {n: v for n, v in before.versions.items() if versions.get(n) is not v}
            for name, one in gone.items():
                self._removed[name] = one
                one.stop(wait=False)
            if self._started:
                self._tell_changes(added, gone)
            self._started = True

    def stop(self) -> None:
        """Drops every version of every model, each when its last request is done."""
        with self._applying:
            for versions in (*self._routes.versions.values(), *self._removed.values()):
                versions.stop()

    def _tell_changes(
        self, added: Mapping[str, ModelVersions], gone: Mapping[str, ModelVersions]
    ) -> None:
        """Announces the models that came and went."""
        for name, versions in added.items():
            base_path = f" from {versions.base_path}" if name in gone else ""
            self._announce(f"Model {name!r}: {describe(versions.servables())} serves{base_path}")
        for name in gone.keys() - added.keys():
            self._announce(f"Model {name!r}: no longer served")


def _all_or_none(calls: Sequence[Callable[[], _T]]) -> list[_T]:
    """Makes calls, each in a thread, for one model each; tells of all that failed."""
    if not calls:
        return []
    with ThreadPoolExecutor(len(calls), thread_name_prefix="models") as pool:
        futures = [pool.submit(call) for call in calls]
    errors = [str(error) for f in futures if isinstance(error := f.exception(), ServingError)]
    if errors:
        raise RequestError(
            Code.UNKNOWN, f"{len(errors)} model(s) did not become available: {' '.join(errors)}"
        )
    return [future.result() for future in futures]


def describe(servables: Sequence[Servable]) -> str:
    """The versions that serve, with their engine: `versions 1 and 2 (savedmodel)`."""
    if not servables:
        return "no version"
    kinds = sorted({servable.engine.kind for servable in servables})
    return f"{list_versions(s.version for s in servables)} ({', '.join(kinds)})"
