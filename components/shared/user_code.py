"""Loading a function out of the user's own Python file (`module_file`)."""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from privet.components.shared.errors import ConfigError
from privet.components.shared.storage import stable_hash

Argument = bool | int | float | str
"""What a configuration can pass to a function."""


def load_function(
    module_file: str, name: str, arguments: Mapping[str, Argument] | None = None
) -> Callable[..., Any]:
    """A function of a Python file.

    Args:
      module_file: path of the file; it may import its neighbours.
      name: the function.
      arguments: bound to it by name, so that it is to be called without any. None to leave what it
        takes to the caller.

    Raises:
      ConfigError: the file is missing or fails on import, has no such function, or that takes
        other arguments.
    """
    module = _load_module(Path(module_file))
    function = getattr(module, name, None)
    if not callable(function):
        defined = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"{module_file} defines no function {name!r}; it defines {', '.join(defined) or 'none'}"
        )
    if arguments is None:
        return function
    check_arguments(name, inspect.signature(function), arguments)
    return functools.partial(function, **arguments)


def check_arguments(
    name: str, signature: inspect.Signature, arguments: Mapping[str, Argument]
) -> None:
    """Refuses arguments that a function does not take, or without which it cannot be called.

    Raises:
      ConfigError: shows the signature.
    """
    try:
        signature.bind(**arguments)
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "none"
        raise ConfigError(
            f"{name}{signature} cannot be called with the arguments {given}: {error}. Give each by "
            "the name that the function has for it, and all that have no default."
        ) from error


def _load_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"module_file={str(path)!r} does not exist. Check the path.")
    if path.suffix != ".py":
        raise ConfigError(f"module_file={str(path)!r} must be a Python file ending in .py")
    name = f"privet_user_{path.stem}_{stable_hash(str(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py path always has one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # registered, so that its classes can be pickled by name
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"module_file={str(path)!r} fails on import: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    return module
