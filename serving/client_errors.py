"""What can go wrong for a client of a serving process, as one small tree.

ServingError
└── ClientError             has the canonical code and the server's own message
    ├── InvalidRequest      the request is wrong; sending it again changes nothing
    ├── ModelNotFound       there is no such model or version
    ├── Unauthenticated     the token or certificate is missing, wrong or not enough
    ├── ServerUnavailable   nobody answers, or the server asks to come back later
    └── DeadlineExceeded    the time that the call had is over
"""

from privet.components.shared.errors import ServingError
from privet.serving.status import Code


class ClientError(ServingError):
    """A call that gave no answer.

    Attributes:
      code: the canonical code.
      message: what the server said, without what the client adds to it.
      retry_after_seconds: how long the server asks to wait; 0 if it does not say.
    """

    def __init__(
        self, where: str, code: Code, message: str, retry_after_seconds: float = 0.0
    ) -> None:
        super().__init__(f"{where}: {message}")
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class InvalidRequest(ClientError):  # noqa: N818
    """The request is wrong."""


class ModelNotFound(ClientError):  # noqa: N818
    """There is no such model or version."""


class Unauthenticated(ClientError):  # noqa: N818
    """The server does not let this client in."""


class ServerUnavailable(ClientError):  # noqa: N818
    """The server cannot be reached, or cannot answer now."""


class DeadlineExceeded(ClientError):  # noqa: N818
    """There was no answer in time."""


_KINDS: dict[Code, type[ClientError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.FAILED_PRECONDITION: InvalidRequest,
    Code.OUT_OF_RANGE: InvalidRequest,
    Code.NOT_FOUND: ModelNotFound,
    Code.UNAUTHENTICATED: Unauthenticated,
    Code.PERMISSION_DENIED: Unauthenticated,
    Code.UNAVAILABLE: ServerUnavailable,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def client_error(
    where: str, code: Code, message: str, retry_after_seconds: float = 0.0
) -> ClientError:
    """The error for a code."""
    return _KINDS.get(code, ClientError)(where, code, message, retry_after_seconds)
