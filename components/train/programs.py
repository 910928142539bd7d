"""Compiled functions as values: TensorFlow graphs that any process can load and call.

A program is built once, where the user's model and TFF are at hand, and needs neither to run: it
crosses to workers as bytes. Building it in a graph of its own also keeps it from the seed that
`tf.random.set_seed` gives.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

Arrays = tuple[np.ndarray, ...]
Call = Callable[[Arrays], Arrays]


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of arrays to arrays.

    Attributes:
      graph: serialized tf.GraphDef.
      feeds: names of the tensors that the arguments go to.
      fetches: names of the results' tensors.
    """

    graph: bytes
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]

    def load(self) -> Call:
        """A function that threads may share; its session lives as long as it."""
        graph = tf.Graph()
        with graph.as_default():
            definition = tf.compat.v1.GraphDef.FromString(self.graph)
            tf.graph_util.import_graph_def(definition, name="")
        session = tf.compat.v1.Session(graph=graph)
        # The public make_callable, given feeds, looks all names up anew in each call: as much time
        # as training a dozen clients of a small model takes.
        options = config_pb2.CallableOptions(feed=self.feeds, fetch=self.fetches)
        call = session._make_callable_from_options(options)
        return lambda arguments: tuple(np.asarray(result) for result in call(*arguments))


def build_program(
    function: Callable[..., Any], *specs: Any, xla: bool = False
) -> tuple[Program, Any]:
    """Traces a function of structures of tensors.

    Args:
      function: takes one structure of tensors for each of specs; returns a structure of tensors.
      specs: structures of tf.TensorSpec. The program takes their leaves, in tf.nest's order.
      xla: whether XLA compiles it; a new shape of the arguments is compiled when it comes.

    Returns:
      The program, which gives the leaves of the result, and the structure of the result.
    """
    graph = tf.Graph()
    with graph.as_default():
        feeds = tf.nest.map_structure(
            lambda spec: tf.compat.v1.placeholder(spec.dtype, spec.shape), specs
        )
        results = tf.function(function, jit_compile=xla, autograph=False)(*feeds)
        definition = graph.as_graph_def()
    program = Program(
        definition.SerializeToString(deterministic=True),
        tuple(feed.name for feed in tf.nest.flatten(feeds)),
        tuple(result.name for result in tf.nest.flatten(results)),
    )
    return program, tf.nest.map_structure(lambda _: None, results)
