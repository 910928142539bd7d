"""Loading a function out of the user's own Python file (`module_file`)."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from privet.components.shared.errors import ConfigError
from privet.components.shared.storage import stable_hash


def load_function(module_file: str, name: str) -> Callable[..., Any]:
    """A function of a Python file.

    Args:
      module_file: path of the file; it may import its neighbours.
      name: the function.

    Raises:
      ConfigError: the file is missing or fails on import, or has no such function.
    """
    module = _load_module(Path(module_file))
    function = getattr(module, name, None)
    if not callable(function):
        defined = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"{module_file} defines no function {name!r}; it defines {', '.join(defined) or 'none'}"
        )
    return function


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
