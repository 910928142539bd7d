"""A model configuration file that is followed: what it says is put into force when it changes."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from privet.components.shared.errors import ConfigError, ServingError
from privet.serving.model_config import ModelConfig, read_config_file
from privet.serving.retries import Failure, RetryPolicy, after_failure, identity_of, may_try
from privet.serving.status import Code, RequestError


class ConfigFile:
    """The file, from its first reading to `stop`. Also a context manager."""

    def __init__(
        self,
        path: Path,
        apply: Callable[[Sequence[ModelConfig]], None],
        *,
        poll_seconds: float,
        retry: RetryPolicy,
        announce: Callable[[str], None],
    ) -> None:
        """Reads the file and puts it into force; then looks for changes.

        Args:
          path: a text ModelServerConfig.
          apply: puts the models of the file into force, or raises and changes nothing.
          poll_seconds: the time between two looks at the file; 0 looks once.
          retry: when a file that was refused is tried again though it has not changed: a version
            that it wants may have come.
          announce: told, in a line each, what is wrong with a later file.

        Raises:
          ConfigError: the file cannot be read, or says something that cannot be.
          ServingError: a model in it cannot be served.
        """
        self._path = path
        self._apply = apply
        self._poll_seconds = poll_seconds
        self._retry = retry
        self._announce = announce
        self._failure: Failure | None = None
        self._identity = identity_of(path)
        self._stopping = threading.Event()
        try:
            self._apply(read_config_file(path) or ())
        except RequestError as error:
            if error.code is not Code.FAILED_PRECONDITION:
                raise
            raise ServingError(
                f"Wanted to serve the models of {path}. {error}. Name the version in the model's "
                "model_version_policy, or add --allow_version_labels_for_unavailable_models."
            ) from error
        self._thread = threading.Thread(target=self._watch, name="model-config", daemon=True)
        if poll_seconds > 0:
            self._thread.start()

    def poll(self) -> None:
        """Looks at the file once. One that is refused leaves the configuration as it is."""
        identity = identity_of(self._path)
        if identity == self._identity or not may_try(self._failure, identity, self._retry):
            return
        try:
            configs = read_config_file(self._path)
            if configs is not None:
                self._apply(configs)
        except (ConfigError, ServingError) as error:
            known = self._failure is not None and self._failure.identity == identity
            self._failure = after_failure(self._failure, identity)
            if not known:
                self._announce(
                    f"Model configuration {self._path} is refused, the one before stays: {error}"
                )
        else:
            self._identity, self._failure = identity, None

    def stop(self) -> None:
        """Follows the file no longer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        """Polls until stopped."""
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception as error:
                # The server goes on with what it has, whatever is wrong with the file.
                self._announce(f"Model configuration {self._path}: {error}")
