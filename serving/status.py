"""Canonical status codes, and the one error that carries such a code to a client."""

import enum

from privet.components.shared.errors import ServingError


class Code(enum.IntEnum):
    """The canonical codes that gRPC, TensorFlow and TF Serving share."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class WouldBlockError(Exception):
    """A model would keep an event loop waiting; its request is to be answered in another thread.

    No RequestError: nothing is wrong with the request, and no client sees this.
    """


class RequestError(ServingError):
    """A request that cannot be answered.

    The message is the one that TF Serving gives, since clients match on it; it need not follow
    the house form of wanted, came, try.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


def invalid_argument(message: str) -> RequestError:
    """The error for a request that is wrong whatever the server's state; most errors are."""
    return RequestError(Code.INVALID_ARGUMENT, message)
