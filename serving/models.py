"""The models of a server by name, and how a request finds its version."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from privet.serving.status import Code, RequestError, invalid_argument
from privet.serving.versions import ModelVersions, Servable, VersionStatus


@dataclass(frozen=True)
class ModelRequest:
    """Which model a request wants: by name, and at most one of version number and label."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Models:
    """All models of a server."""

    by_name: Mapping[str, ModelVersions]

    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(self.by_name)

    def labels(self, name: str) -> Mapping[str, int]:
        """The version that each label of a model stands for."""
        return {}

    @contextmanager
    def use(self, request: ModelRequest) -> Iterator[Servable]:
        """Lends the version that a request wants.

        Raises:
          RequestError: there is no such model, version or label.
        """
        if not request.name:
            raise invalid_argument("ModelSpec has no name specified.")
        if request.label is not None:
            # Labels come with a model configuration file, which this server does not read yet.
            raise invalid_argument(f"Unrecognized servable version label: {request.label}")
        versions = self.by_name.get(request.name)
        if versions is None:
            wanted = (
                f"Latest({request.name})"
                if request.version is None
                else f"Specific({request.name}, {request.version})"
            )
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        with versions.use(request.version) as servable:
            yield servable

    def statuses(self, request: ModelRequest) -> tuple[VersionStatus, ...]:
        """The states of a model's versions, newest first, or of the one asked for.

        A label is ignored, as TF Serving does.

        Raises:
          RequestError: NOT_FOUND, there is no such model or version.
        """
        versions = self.by_name.get(request.name)
        statuses = versions.statuses() if versions else ()
        if request.version is not None:
            statuses = tuple(s for s in statuses if s.version == request.version)
            if not statuses:
                raise RequestError(
                    Code.NOT_FOUND,
                    f"Could not find version {request.version} of model {request.name}",
                )
        if not statuses:
            raise RequestError(
                Code.NOT_FOUND, f"Could not find any versions of model {request.name}"
            )
        return statuses
