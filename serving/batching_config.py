"""TF Serving's batching parameters as a checked value, and reading them from text files."""

import dataclasses
import os
from pathlib import Path
from typing import Self

from privet.components.shared.errors import ConfigError
from privet.serving.config import ServerConfig
from privet.serving.text_protos import new_message, read_text

BATCHING_PARAMETERS_FILE = "batching_params.pbtxt"
"""In a version's directory, with --enable_per_model_batching_parameters."""

# The largest batch that warm-up makes up when no sizes are configured.
_WARM_UP_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class BatchingConfig:
    """How requests are joined into batches; the defaults are TF Serving's.

    Attributes:
      max_batch_size: the most examples in a request; in a batch too, unless large batches are
        split.
      batch_timeout_micros: how long a batch that is not full waits for company although it could
        run; 0, natural batching, never waits: who comes while others run goes next, together.
      max_enqueued_batches: how many batches of one signature may wait; 0 counts as 1.
      num_batch_threads: how many batches of a version run at once.
      allowed_batch_sizes: increasing; a batch is filled up to the next of them. Empty: any size.
      pad_variable_length_inputs: fill shorter inputs up to the longest of the batch, with their
        own first value; otherwise only inputs of the same shapes go together.
      enable_large_batch_splitting: run a request of more than max_execution_batch_size examples
        in parts.
      max_execution_batch_size: the most examples in a batch where large ones are split.

    Raises:
      ConfigError: a value, or two together, cannot be.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1 if self.enable_large_batch_splitting else 0),
            ("num_batch_threads", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)} must be {least} or above.")
        sizes = self.allowed_batch_sizes
        if any(size < 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
            raise ConfigError(
                f"allowed_batch_sizes={list(sizes)} must be above 0 and increase. Sort them, and "
                "write each once."
            )
        if sizes and sizes[-1] != self.max_batch_size:
            raise ConfigError(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.max_batch_size}. Change one of them."
            )
        if self.largest_batch > self.max_batch_size or self.largest_batch < 1:
            raise ConfigError(
                f"max_execution_batch_size={self.max_execution_batch_size} must be from 1 to "
                f"max_batch_size={self.max_batch_size}."
            )

    @property
    def largest_batch(self) -> int:
        """The most examples that run at once."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def warm_up_sizes(self) -> tuple[int, ...]:
        """The batch sizes to try before a version serves."""
        if self.allowed_batch_sizes:
            return self.allowed_batch_sizes
        return tuple(sorted({1, min(self.max_batch_size, _WARM_UP_BATCH_SIZE)}))

    def padded_size(self, size: int) -> int:
        """The size that a batch of `size` examples is filled up to."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


def read_batching_config(path: Path, flag: str) -> BatchingConfig:
    """Reads a text BatchingParameters; what it leaves out gets TF Serving's default.

    Args:
      path: the file.
      flag: the flag that led to it, for errors.

    Raises:
      ConfigError: it cannot be read, or its values cannot be.
    """
    message = read_text(path, new_message("BatchingParameters"), flag)
    # A wrapper that is not there means the default; `value` tells a wrapper from a plain field.
    given = {
        field.name: getattr(value, "value", value)
        for field, value in message.ListFields()
        if field.name not in ("allowed_batch_sizes", "thread_pool_name")
    }
    try:
        return BatchingConfig(allowed_batch_sizes=tuple(message.allowed_batch_sizes), **given)
    except ConfigError as error:
        raise ConfigError(
            f"Wanted batching parameters that go together in {path}; {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class ServerBatching:
    """What the server's flags say about batching, read once.

    Attributes:
      common: the parameters of the server; None for no batching.
      per_model: versions are batched with their own parameters, and those without are not.
    """

    common: BatchingConfig | None
    per_model: bool

    @classmethod
    def from_flags(cls, config: ServerConfig) -> Self:
        """Reads the server's batching parameters.

        Raises:
          ConfigError: they cannot be read, or cannot be.
        """
        file, common = config.batching_parameters_file, None
        if config.enable_batching:
            common = (
                read_batching_config(file, "batching_parameters_file") if file else BatchingConfig()
            )
        return cls(common, config.enable_per_model_batching_parameters)

    def config_of(self, version_path: Path) -> BatchingConfig | None:
        """The parameters that a version is served with; None for no batching.

        How many batches run at once is the server's matter, as in TF Serving: a version's own
        file does not say it.

        Raises:
          ConfigError: the version's own cannot be read, or cannot be.
        """
        if self.common is None or not self.per_model:
            return self.common
        path = version_path / BATCHING_PARAMETERS_FILE
        if not path.is_file():
            return None
        own = read_batching_config(path, "enable_per_model_batching_parameters")
        return dataclasses.replace(own, num_batch_threads=self.common.num_batch_threads)
