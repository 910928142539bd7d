"""The SavedModel engine: a v1 session whose signatures run in the caller's thread."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.components.shared.errors import ServingError
from privet.serving.engine import (
    Signature,
    check_input_types,
    select_outputs,
    signatures_from_protos,
)
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
            self._signatures = signatures_from_protos(self._signature_defs)
            # The initialisation signature of TensorFlow 2 names an operation, not a tensor.
            self._functions = {
                key: self._function(signature)
                for key, signature in self._signatures.items()
                if all(":" in name for name in _tensor_names(signature))
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
        function = self._functions.get(signature_name)
        if function is None:
            raise RequestError(
                Code.UNIMPLEMENTED, f"Signature {signature_name!r} has no dense tensors to run."
            )
        check_input_types(signature, inputs)
        try:
            results = function(*(inputs[name] for name in signature.inputs))
        except self._op_error as error:
            code = getattr(error, "error_code", Code.UNKNOWN)
            raise RequestError(Code(code), str(getattr(error, "message", error))) from error
        return select_outputs(dict(zip(signature.outputs, results, strict=True)), output_filter)

    def close(self) -> None:
        """Frees the session; see `Engine.close`."""
        self._functions.clear()
        self._session.close()

    def _function(self, signature: Signature) -> Callable[..., list[Any]]:
        """Compiles the signature into a function of its inputs' arrays, in their order."""
        from tensorflow.core.protobuf import config_pb2

        feeds = [spec.tensor_name for spec in signature.inputs.values()]
        fetches = [spec.tensor_name for spec in signature.outputs.values()]
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


def _tensor_names(signature: Signature) -> list[str]:
    """The names of all tensors of a signature."""
    return [spec.tensor_name for spec in (*signature.inputs.values(), *signature.outputs.values())]
