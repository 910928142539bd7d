"""The SavedModel engine: a v1 session whose signatures run in the caller's thread."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.components.shared.errors import ServingError
from privet.serving.engine import (
    Signature,
    check_input_types,
    select_outputs,
    signature_from_proto,
)
from privet.serving.graph_state import may_change_state
from privet.serving.status import Code, RequestError

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

_SERVE_TAG = "serve"


class SavedModelEngine:
    """Runs the signatures of a SavedModel.

    A v1 session feeds and fetches tensors by name, as TF Serving's own session->Run does: any
    shape is accepted until an operator refuses it, and the messages are the runtime's. A
    TensorFlow 2 signature function would take about 25 times as long per call and check shapes
    first.
    """

    kind = "savedmodel"
    may_block = False

    def __init__(self, path: Path) -> None:
        """Loads a SavedModel.

        Raises:
          ServingError: it cannot be loaded.
        """
        import tensorflow as tf

        # Requests bring the parallelism: each runs in its caller's thread, so a pool of threads
        # inside the session would only be waited for.
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1,
            inter_op_parallelism_threads=1,
            use_per_session_threads=True,
        )
        self._op_error: type[Exception] = tf.errors.OpError
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, [_SERVE_TAG], str(path))
            self._signature_defs = {
                key: meta_graph.signature_def[key] for key in sorted(meta_graph.signature_def)
            }
            self._signatures = {
                key: _signature(key, proto, meta_graph.graph_def)
                for key, proto in self._signature_defs.items()
            }
            self._functions = {
                key: self._function(signature) for key, signature in self._signatures.items()
            }
        except Exception as error:  # the loader raises OSError, RuntimeError, OpError, ...
            self._session.close()
            raise ServingError(
                f"Wanted a SavedModel with the tag {_SERVE_TAG!r} at {path}; loading it failed "
                f"with {type(error).__name__}: {error}. Export it again."
            ) from error

    @property
    def signature_defs(self) -> Mapping[str, "SignatureDef"]:
        return self._signature_defs

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        """Runs one signature; see `Engine.run`."""
        signature = self._signatures[signature_name]
        check_input_types(signature, inputs)
        try:
            results = self._functions[signature_name](*[inputs[name] for name in signature.inputs])
        except self._op_error as error:
            raise _request_error(error) from error
        outputs = {
            name: result if isinstance(result, np.ndarray) else _scalar(result)
            for name, result in zip(signature.outputs, results, strict=True)
        }
        return select_outputs(outputs, output_filter)

    def close(self) -> None:
        """Frees the session; see `Engine.close`."""
        self._functions.clear()
        self._session.close()

    def _function(self, signature: Signature) -> Callable[..., list[Any]]:
        """Compiles the signature into a function of its inputs' arrays, in their order.

        A signature that cannot run does not keep the others from running: as in TF Serving, who
        calls it gets the error.
        """
        for name, spec in (*signature.inputs.items(), *signature.outputs.items()):
            if not spec.tensor_name:
                return _refuse_with(
                    Code.INVALID_ARGUMENT,
                    f'Tensor "{name}" of signature "{signature.name}" is sparse or ragged; only '
                    "dense tensors can be sent and returned.",
                )
        feeds = [spec.tensor_name for spec in signature.inputs.values()]
        fetches = [spec.tensor_name for spec in signature.outputs.values()]
        try:
            return self._callable(feeds, fetches)
        except self._op_error as error:
            refusal = _request_error(error)
            return _refuse_with(refusal.code, refusal.message)
        except (KeyError, ValueError) as error:  # the public method's words for the same
            return _refuse_with(Code.INVALID_ARGUMENT, str(error))

    def _callable(self, feeds: list[str], fetches: list[str]) -> Callable[..., list[Any]]:
        """A function from the feeds' arrays to the fetches' values."""
        from tensorflow.core.protobuf import config_pb2

        make = getattr(self._session, "_make_callable_from_options", None)
        if make is None:
            # The method above is private; TensorFlow may drop it. This one is slower: it hands
            # each call to the session's own threads.
            graph = self._session.graph
            make_public: Callable[..., list[Any]] = self._session.make_callable(
                [graph.get_tensor_by_name(name) for name in fetches],
                feed_list=[graph.get_tensor_by_name(name) for name in feeds],
            )
            return make_public
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        options.run_options.inter_op_thread_pool = -1  # in the caller's thread
        function: Callable[..., list[Any]] = make(options)
        return function


def _signature(key: str, proto: "SignatureDef", graph_def: Any) -> Signature:
    """Translates a SignatureDef, with what its graph does to the model."""
    outputs = [info.name for info in proto.outputs.values()]
    return dataclasses.replace(
        signature_from_proto(key, proto), may_change_state=may_change_state(graph_def, outputs)
    )


def _scalar(value: Any) -> np.ndarray:
    """The array of rank 0 that TensorFlow gave as a NumPy number, or as bytes."""
    return np.array(value, dtype=object if isinstance(value, bytes) else None)


def _request_error(error: Any) -> RequestError:
    """The runtime's error with its own code and words."""
    return RequestError(Code(getattr(error, "error_code", Code.UNKNOWN)), error.message)


def _refuse_with(code: Code, message: str) -> Callable[..., list[Any]]:
    """A function that always fails."""

    def refuse(*_inputs: np.ndarray) -> list[Any]:
        raise RequestError(code, message)

    return refuse
