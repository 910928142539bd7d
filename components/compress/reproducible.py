"""The same model, saved twice, as the same bytes.

`tf.saved_model.save` puts counts of all that the process has traced before into the names of
functions and of what they capture, gives recurrent layers random ids, and writes functions and maps
in no fixed order. Here the names count within the file, by the order of first use, and everything
is written in order, so that a servable can be checked by its digest and a cache finds what it has
seen.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from privet.components.shared.signatures import SAVED_MODEL_FILE

_FINGERPRINT_FILE = "fingerprint.pb"
_SAME_LAYER = "api_implements"  # attribute that links what a recurrent layer runs on CPU and GPU
_ARGUMENT_NAME = "_user_specified_name"
_COLOCATION = "_class"

_Names = Mapping[Any, Any]
"""Old name -> new name, each as text and as bytes."""


def make_reproducible(directory: str) -> None:
    """Rewrites a SavedModel's saved_model.pb so that the same model always gives the same bytes.

    fingerprint.pb goes: it holds digests of the file as it was, and only TensorFlow could write it
    anew. Servers and loaders do without (TensorFlow before 2.11 wrote none).

    Args:
      directory: of a SavedModel that `tf.saved_model.save` has written.
    """
    path = Path(directory) / SAVED_MODEL_FILE
    saved_model = SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        _replace(meta_graph, _fixed_names(meta_graph))
        functions = meta_graph.graph_def.library.function
        functions.sort(key=lambda function: function.signature.name)
        for function in functions:
            _number_captures(function)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
    path.with_name(_FINGERPRINT_FILE).unlink(missing_ok=True)


def _fixed_names(meta_graph: MetaGraphDef) -> _Names:
    """What replaces each name of a function, and each id of a recurrent layer."""
    functions = {one.signature.name: one for one in meta_graph.graph_def.library.function}
    names: dict[str, str] = {}
    layers: dict[str, str] = {}
    for index, name in enumerate(_in_order_of_use(meta_graph.graph_def.node, functions)):
        names[name] = f"{_number(name)[0]}_{index}"
        if _SAME_LAYER in functions[name].attr:
            layer = functions[name].attr[_SAME_LAYER].s.decode()
            # The kind before the id stays: TFLite's converter knows an LSTM by it.
            layers.setdefault(layer, f"{layer.partition('_')[0]}_{len(layers)}")
    names |= layers
    return {**names, **{old.encode(): new.encode() for old, new in names.items()}}


def _in_order_of_use(nodes: Iterable[Any], functions: Mapping[str, Any]) -> list[str]:
    """Names of all functions: as the nodes first call them, then those that no node calls."""
    found: dict[str, None] = {}

    def visit(nodes: Iterable[Any]) -> None:
        for node in nodes:
            values = (node.attr[key] for key in sorted(node.attr))
            for name in (node.op, *(called for value in values for called in _called(value))):
                if name in functions and name not in found:
                    found[name] = None
                    visit(functions[name].node_def)

    visit(nodes)
    # By the order in which they were traced: of one thread, that is always the same.
    found.update(dict.fromkeys(sorted(functions, key=lambda name: _number(name)[1])))
    return list(found)


def _called(value: AttrValue) -> Iterator[str]:
    yield value.func.name
    yield from (function.name for function in value.list.func)


def _number(name: str) -> tuple[str, int]:
    """A function's name without TensorFlow's counts behind it, and the last of them."""
    match = re.fullmatch(r"(.*?)((?:_\d+)+)", name)
    return (match[1], int(match[2].split("_")[-1])) if match else (name, -1)


def _number_captures(function: FunctionDef) -> None:
    """Names what a function captures by its place among the arguments."""
    names: dict[str, str] = {}
    places: dict[str, str] = {}  # by TensorFlow's count, which ends the argument's name or is it
    for place, argument in enumerate(function.signature.input_arg):
        attributes = function.arg_attr[place].attr if place in function.arg_attr else {}
        count = attributes[_ARGUMENT_NAME].s.decode() if _ARGUMENT_NAME in attributes else ""
        new = re.sub(r"_\d+(?=___redundant_placeholder)", "", argument.name)  # unused, in loops
        if count.isdecimal():
            del attributes[_ARGUMENT_NAME]
            places[count] = str(place)
            if not new.startswith("unknown"):  # TensorFlow's own name by place
                new = re.sub(f"_{count}$", f"_{place}", new)
        names[argument.name] = new
        argument.name = new
    for node in function.node_def:
        node.input[:] = [names.get(name, name) for name in node.input]
        if _COLOCATION in node.attr:
            beside = node.attr[_COLOCATION].list
            split = (name.decode().rpartition("/") for name in beside.s)
            beside.s[:] = [f"{a}{b}{places.get(c, c)}".encode() for a, b, c in split]
    for output, source in function.ret.items():
        function.ret[output] = names.get(source, source)


def _replace(message: Any, names: _Names) -> None:
    """Puts the new name wherever a message holds an old one: as text, as bytes, as key of a map."""
    for field, value in message.ListFields():
        repeated = field.label == field.LABEL_REPEATED
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _replace_in_map(value, names)
        elif field.message_type is not None:
            for part in value if repeated else (value,):
                _replace(part, names)
        elif field.type not in (field.TYPE_STRING, field.TYPE_BYTES):
            continue
        elif repeated:
            value[:] = [names.get(one, one) for one in value]
        elif value in names:
            setattr(message, field.name, names[value])


def _replace_in_map(entries: Any, names: _Names) -> None:
    renamed = {names.get(key, key): copy.deepcopy(value) for key, value in entries.items()}
    entries.clear()
    for key, value in renamed.items():
        if isinstance(value, Message):
            _replace(value, names)
            entries[key].CopyFrom(value)
        else:
            entries[key] = names.get(value, value)
