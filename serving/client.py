"""A client of a serving process: arrays in and out, over REST or gRPC.

It speaks to `privet serve` and to tensorflow/serving alike. REST needs nothing but NumPy.
"""

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np

from privet.components.shared.signatures import SERVING_DEFAULT
from privet.serving.client_errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    Unauthenticated,
    client_error,
)
from privet.serving.client_grpc import GrpcClient, GrpcPrediction
from privet.serving.client_protocols import GrpcProtocol, Protocol, RestProtocol, Target
from privet.serving.client_rest import RestClient
from privet.serving.client_tls import ClientTls
from privet.serving.engine import Signature, TensorSpec
from privet.serving.status import Code
from privet.serving.versions import State, VersionStatus

__all__ = [
    "ClientError",
    "ClientTls",
    "DeadlineExceeded",
    "GrpcClient",
    "GrpcPrediction",
    "InvalidRequest",
    "ModelNotFound",
    "PrivetClient",
    "RestClient",
    "ServerUnavailable",
    "Unauthenticated",
]

_T = TypeVar("_T")

# Full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): before
# try n a random pause of up to 0.1 x 2^n seconds, so that clients do not come back all at once.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

# How long the signatures of a model are relied on that was asked for without a version number.
_SIGNATURES_SECONDS = 30.0
_POLL_SECONDS = 0.05


class PrivetClient:
    """Requests to one server. Threads may share it.

    Both protocols take and give the same arrays: inputs are cast to the types of the model's
    signature where nothing is lost, and outputs have its types. For that the signatures are
    fetched once, and kept: for good if the request names a version, for half a minute otherwise.

    A call is tried again, after a random pause, while the server cannot be reached or says that it
    is unavailable; no other error is, and no call takes longer than its time-out.
    """

    def __init__(
        self,
        address: str,
        *,
        protocol: Literal["rest", "grpc"] = "rest",
        timeout_seconds: float = 30.0,
        retries: int = 3,
        token: str | None = None,
        tls: ClientTls | None = None,
        uniform: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Makes a client; nothing is sent yet.

        Args:
          address: `host:port` of the protocol's API.
          protocol: `rest`, or `grpc`, which imports TensorFlow.
          timeout_seconds: how long a call may take, its retries included.
          retries: how many times a call is tried again.
          token: what the server's --auth_token_file holds, if it has one.
          tls: for servers with --ssl_config_file; None for plain text.
          uniform: draws from [0, 1), for the pauses.
          clock, sleep: in seconds.
        """
        self._protocol: Protocol = (
            RestProtocol(address, token=token, tls=tls)
            if protocol == "rest"
            else GrpcProtocol(address, token=token, tls=tls)
        )
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._uniform = uniform
        self._clock = clock
        self._sleep = sleep
        # Target -> when its signatures are no longer relied on, and the signatures.
        self._known: dict[Target, tuple[float, Mapping[str, Signature]]] = {}

    def predict(
        self,
        model_name: str,
        inputs: Any,
        *,
        signature_name: str = SERVING_DEFAULT,
        version: int | None = None,
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          model_name: of the model.
          inputs: input name -> array, or the array of the only input.
          signature_name: of the signature.
          version, label: which version; by default the newest. At most one of them.

        Returns:
          Output name -> array; strings as objects that are bytes.

        Raises:
          ClientError: there is no answer; its class and `code` say why.
        """
        target = self._target(model_name, version, label)

        def attempt(seconds: float) -> dict[str, np.ndarray]:
            started = self._clock()
            signature = self._signature(target, signature_name, seconds)
            arrays = _fitting_arrays(target, signature, inputs)
            left = seconds - (self._clock() - started)
            return self._protocol.predict(target, signature, arrays, left)

        return self._call(target, attempt)

    def classify(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str = SERVING_DEFAULT,
        version: int | None = None,
        label: str | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Classifies tf.Examples.

        Args:
          model_name: of the model.
          examples: for each, feature name -> value, flat list or 1-D array. Integers make an int64
            feature, also where the model wants floats: give 1.0, not 1.
          context: features that all examples have.
          signature_name, version, label: as of `predict`.

        Returns:
          For each example its (label, score) pairs.

        Raises:
          ClientError: there is no answer; its class and `code` say why.
        """
        target = self._target(model_name, version, label)
        return self._call(
            target,
            lambda seconds: self._protocol.classify(
                target, signature_name, examples, context, seconds
            ),
        )

    def regress(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str = SERVING_DEFAULT,
        version: int | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Regresses tf.Examples; the arguments are those of `classify`.

        Returns:
          float32 [examples].

        Raises:
          ClientError: there is no answer; its class and `code` say why.
        """
        target = self._target(model_name, version, label)
        values = self._call(
            target,
            lambda seconds: self._protocol.regress(
                target, signature_name, examples, context, seconds
            ),
        )
        return np.array(values, np.float32)

    def status(self, model_name: str, version: int | None = None) -> tuple[VersionStatus, ...]:
        """The states of a model's versions, newest first, or of one.

        Raises:
          ClientError: there is no answer; ModelNotFound if there never was such a model.
        """
        target = self._target(model_name, version, None)
        return self._call(target, lambda seconds: self._protocol.status(target, seconds))

    def metadata(
        self, model_name: str, version: int | None = None, label: str | None = None
    ) -> dict[str, Signature]:
        """The model's signatures, by name.

        Raises:
          ClientError: there is no answer; its class and `code` say why.
        """
        target = self._target(model_name, version, label)
        return self._call(target, lambda seconds: self._protocol.signatures(target, seconds))

    def wait_until_available(
        self, model_name: str, timeout_seconds: float, version: int | None = None
    ) -> int:
        """Waits until a version of the model answers requests.

        Returns:
          The version: the newest that is AVAILABLE, or the one asked for.

        Raises:
          Unauthenticated: at once; waiting does not help.
          DeadlineExceeded: none was in time, with what was last seen.
        """
        target = self._target(model_name, version, None)
        deadline = self._clock() + timeout_seconds
        while True:
            try:
                statuses = self._protocol.status(target, self._timeout_seconds)
            except Unauthenticated:
                raise
            except ClientError as error:
                seen = str(error)
            else:
                for status in statuses:
                    if status.state is State.AVAILABLE:
                        return status.version
                seen = ", ".join(
                    f"version {status.version} {status.state.name} {status.message}".strip()
                    for status in statuses
                )
            if self._clock() >= deadline:
                raise client_error(
                    f"Wanted model {model_name!r} to be AVAILABLE at {self._address} within "
                    f"{timeout_seconds} seconds",
                    Code.DEADLINE_EXCEEDED,
                    f"last seen: {seen}. Look at the server's output, or wait longer.",
                )
            self._sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Closes the connections."""
        self._protocol.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _target(self, name: str, version: int | None, label: str | None) -> Target:
        """What a request is for."""
        if version is not None and label is not None:
            raise client_error(
                f"Model {name!r}",
                Code.INVALID_ARGUMENT,
                f"version={version} and label={label!r}: wanted at most one of them.",
            )
        return Target(name, version, label)

    def _call(self, target: Target, attempt: Callable[[float], _T]) -> _T:
        """Tries until there is an answer, an error that will stay, or no time left."""
        deadline = self._clock() + self._timeout_seconds
        for number in itertools.count():
            try:
                return attempt(deadline - self._clock())
            except ServerUnavailable as error:
                longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**number)
                pause = max(self._uniform() * longest, error.retry_after_seconds)
                if number >= self._retries or self._clock() + pause >= deadline:
                    raise
            except ClientError:
                # The model may have changed: the next call looks at its signatures anew.
                self._known.pop(target, None)
                raise
            self._sleep(pause)
        raise AssertionError("the loop ends by itself")

    def _signature(self, target: Target, name: str, seconds: float) -> Signature:
        """A signature of the model, fetched if it is not known."""
        until, signatures = self._known.get(target, (0.0, {}))
        if name not in signatures or self._clock() >= until:
            signatures = self._protocol.signatures(target, seconds)
            kept = float("inf") if target.version is not None else _SIGNATURES_SECONDS
            self._known[target] = (self._clock() + kept, signatures)
        if name not in signatures:
            raise client_error(
                str(target),
                Code.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found. It has {sorted(signatures)}.',
            )
        return signatures[name]


def _fitting_arrays(target: Target, signature: Signature, inputs: Any) -> dict[str, np.ndarray]:
    """The inputs under their names, in the signature's types."""
    if not isinstance(inputs, Mapping) and len(signature.inputs) == 1:
        inputs = {next(iter(signature.inputs)): inputs}
    if not isinstance(inputs, Mapping) or inputs.keys() != signature.inputs.keys():
        given = sorted(inputs) if isinstance(inputs, Mapping) else "one array"
        raise client_error(
            str(target),
            Code.INVALID_ARGUMENT,
            f"wanted the inputs {sorted(signature.inputs)} of {signature.name!r}; got {given}.",
        )
    return {
        name: _fitting_array(f"Input {name!r} of {target}", inputs[name], spec)
        for name, spec in signature.inputs.items()
    }


def _fitting_array(where: str, value: Any, spec: TensorSpec) -> np.ndarray:
    """An array of the type that an input wants, if nothing is lost by it but digits."""
    array = np.asarray(value)
    if spec.numpy_type is None:
        return array
    wanted: np.dtype = np.dtype(spec.numpy_type)
    if array.dtype == wanted:
        return array
    if wanted.kind == "O":
        if array.dtype.kind in "SU":
            return array.astype(object)
    elif array.size == 0 or np.can_cast(array.dtype, wanted, "same_kind"):
        with np.errstate(over="ignore"):
            cast = array.astype(wanted)
        if wanted.kind not in "iu" or np.array_equal(cast, array):
            return cast
    raise client_error(
        where,
        Code.INVALID_ARGUMENT,
        f"wanted values of type {spec.type_name}; got {array.dtype}, which does not fit it.",
    )
