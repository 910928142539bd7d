"""The errors that Privet raises on purpose, as one small tree.

    PrivetError
    ├── ConfigError     the configuration is wrong; nothing has run
    ├── DataError       the input data do not fit the configuration
    ├── ModelError      the user's model does not fit the data or cannot be trained
    ├── PrivacyError    a guarantee would be doubtful; always stops the run
    ├── StoreError      an artifact or a client store is missing or damaged
    ├── ServingError    a served model cannot be loaded or queried (see privet.serving)
    └── PipelineError   a node of the pipeline failed; names it and its cause

Every message says what was wanted, what came and what to try, in one paragraph. The command
line prints it as it is, without a traceback.
"""


class PrivetError(Exception):
    """Base of every error that Privet raises on purpose."""


class ConfigError(PrivetError):
    """The configuration is wrong."""


class DataError(PrivetError):
    """The input data do not fit the configuration."""


class ModelError(PrivetError):
    """The user's model does not fit the data, or cannot be trained as it is."""


class PrivacyError(PrivetError):
    """A privacy guarantee would be doubtful."""


class StoreError(PrivetError):
    """An artifact or a client store is missing or damaged."""


class ServingError(PrivetError):
    """A servable cannot be loaded, or a server cannot be reached."""


class PipelineError(PrivetError):
    """A node of the pipeline failed."""
