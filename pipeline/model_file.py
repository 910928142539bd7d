"""A look at the user's model file without running it, which would import TensorFlow."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from privet.components.shared.errors import ConfigError
from privet.components.shared.user_code import Argument, check_arguments


def check_model_file(module_file: str, name: str, arguments: Mapping[str, Argument]) -> None:
    """Checks that a Python file defines a function that can be called so.

    What arguments a function takes that is decorated, imported or assigned is only known when the
    file has run.

    Args:
      module_file: path of the file.
      name: of the function.
      arguments: that it is to be called with.

    Raises:
      ConfigError: the file is missing or no Python, has no such function, or that takes other
        arguments.
    """
    path = Path(module_file)
    if not path.is_file():
        raise ConfigError(
            f"model.module_file={str(path)!r} does not exist. A relative path starts at the "
            "configuration file's folder."
        )
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(
            f"model.module_file={str(path)!r} is not valid Python: {error}"
        ) from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if _binds(tree, name):
        return
    if name not in functions:
        raise ConfigError(
            f"{path} defines no function model.function={name!r}; it defines "
            f"{', '.join(functions) or 'none'}"
        )
    function = functions[name]
    if function.decorator_list:
        return
    try:
        check_arguments(name, signature_of(function.args), arguments)
    except ConfigError as error:
        raise ConfigError(f"model.arguments: {error}") from error


def signature_of(source: ast.arguments) -> inspect.Signature:
    """The signature that is written there; defaults and annotations are their source text.

    Example:
      >>> written = ast.parse("def f(units=2 ** 6, *, name: str): ...").body[0].args
      >>> signature_of(written)
      <Signature (units=2 ** 6, *, name: str)>
    """
    return inspect.Signature(list(_parameters(source)))


def _parameters(source: ast.arguments) -> Iterator[inspect.Parameter]:
    kinds = inspect.Parameter
    count = len(source.posonlyargs) + len(source.args) - len(source.defaults)
    defaults = iter([*[None] * count, *source.defaults])
    for one in source.posonlyargs:
        yield _parameter(one, kinds.POSITIONAL_ONLY, next(defaults))
    for one in source.args:
        yield _parameter(one, kinds.POSITIONAL_OR_KEYWORD, next(defaults))
    if source.vararg:
        yield _parameter(source.vararg, kinds.VAR_POSITIONAL)
    for one, default in zip(source.kwonlyargs, source.kw_defaults, strict=True):
        yield _parameter(one, kinds.KEYWORD_ONLY, default)
    if source.kwarg:
        yield _parameter(source.kwarg, kinds.VAR_KEYWORD)


def _parameter(one: ast.arg, kind: Any, default: ast.expr | None = None) -> inspect.Parameter:
    return inspect.Parameter(
        one.arg, kind, default=_text(default), annotation=_text(one.annotation)
    )


class _Source(str):
    """A piece of source text, shown as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def _text(expression: ast.expr | None) -> object:
    return inspect.Parameter.empty if expression is None else _Source(ast.unparse(expression))


def _binds(tree: ast.Module, name: str) -> bool:
    """Whether the module binds the name in another way than by `def` (import or assignment)."""
    bound: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name) for alias in node.names}
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return name in bound or "*" in bound
