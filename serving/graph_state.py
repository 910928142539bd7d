"""Whether running a part of a TensorFlow graph may change the model's state."""

from collections.abc import Iterable, Iterator
from typing import Any

# Operators that TensorFlow calls stateful and that change nothing a later call could see. Any
# other stateful one (an assignment, a file written, a table filled) counts as a change.
_HARMLESS = frozenset(
    {
        "Assert",
        "HashTableV2",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "ParseExampleV2",
        "Placeholder",
        "Print",
        "PrintV2",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "StatefulPartitionedCall",
        "VarHandleOp",
        "VarIsInitializedOp",
        "VariableV2",
    }
)
_CONTROL_FLOW = frozenset({"Case", "For", "If", "While"})  # what they run is looked at itself


def may_change_state(graph_def: Any, outputs: Iterable[str]) -> bool:
    """Whether computing these tensors may change variables, tables or files.

    Args:
      graph_def: a GraphDef with its function library.
      outputs: names of tensors, such as `StatefulPartitionedCall:0`.
    """
    from tensorflow.python.framework import op_def_registry

    for operator in _operators(graph_def, outputs):
        definition = op_def_registry.get(operator)
        if definition is None:
            return True  # one that a library brought along, or a legacy call of a function
        if definition.is_stateful and operator not in _HARMLESS | _CONTROL_FLOW:
            return True
    return False


def _operators(graph_def: Any, outputs: Iterable[str]) -> set[str]:
    """The types of all operators that the outputs need, inside functions too."""
    nodes = {node.name: node for node in graph_def.node}
    functions = {function.signature.name: function for function in graph_def.library.function}
    operators: set[str] = set()
    called: set[str] = set()
    reached = {_node_name(output) for output in outputs} & nodes.keys()
    waiting = list(reached)
    while waiting:
        node = nodes[waiting.pop()]
        operators.add(node.op)
        called |= _functions_of(node)
        new = {_node_name(name) for name in node.input} & nodes.keys() - reached
        reached |= new
        waiting += new
    looked_at: set[str] = set()
    while new_functions := called & functions.keys() - looked_at:
        looked_at |= new_functions
        for name in new_functions:
            # All nodes: a function runs those with effects, though no output needs them.
            for node in functions[name].node_def:
                operators.add(node.op)
                called |= _functions_of(node)
    return operators


def _functions_of(node: Any) -> set[str]:
    """The functions that a node calls."""
    return set(_function_names(node))


def _function_names(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        for function in attribute.list.func:
            yield function.name


def _node_name(tensor: str) -> str:
    """The node of a tensor (`name:0`), or of a control input (`^name`)."""
    return tensor.removeprefix("^").split(":", 1)[0]
