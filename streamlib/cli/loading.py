"""``module:attribute`` or ``module:factory()`` to a `Topology`, with the mend for each way this goes wrong.

Next: `settings`, the other half of what a worker is made from.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from streamlib.errors import ConfigError, StreamlibError
from streamlib.topology.topology import Topology


def load_topology(target: str) -> Topology:
    """The topology that ``target`` names; the current folder is importable.

    Raises:
        ConfigError: There is no such module or attribute, or it is something else.
        StreamlibError: What the module itself raised, such as the mistakes of its topology.
    """
    module_name, path, is_call = _split(target)
    module = _imported(module_name)
    found = _attribute(module, path)
    if is_call:
        found = _called(found, target)
    if isinstance(found, Topology):
        return found
    msg = f"{target} is {_kind(found)}, not a Topology. {_mend(found, module_name, path, is_call)}"
    raise ConfigError(msg)


def load_function(target: str) -> Callable[..., Any]:
    """The function that ``target`` names, ``module:function``; the current folder is importable.

    Raises:
        ConfigError: There is no such module or function, or it is something else.
    """
    module_name, path, is_call = _split(target, "function", "fix")
    found = _attribute(_imported(module_name), path, "a function")
    if is_call:
        found = _called(found, target)
    if callable(found):
        function: Callable[..., Any] = found
        return function
    msg = f"{target} is {_kind(found)}, not a function"
    raise ConfigError(msg)


def _split(target: str, what: str = "topology", example: str = "topology") -> tuple[str, str, bool]:
    module, colon, attribute = target.partition(":")
    path = attribute.removesuffix("()")
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        msg = f'"{target}" names a file. Name the module: {dotted}:{attribute or example}'
        raise ConfigError(msg)
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *path.split(".")]):
        msg = f'"{target}" does not say where the {what} is. Write module:attribute or module:factory(), e.g. '
        raise ConfigError(msg + f"{module.split('(')[0] or 'app'}:{example}")
    return module, path, path != attribute


def _imported(name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except StreamlibError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(f"importing {name}", error) from error
        msg = f"there is no module {error.name}. {_nearest_module(error.name)}"
        raise ConfigError(msg) from None
    except Exception as error:
        raise _failed(f"importing {name}", error) from error


def _nearest_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    folder = Path.cwd().joinpath(*parent.split(".")) if parent else Path.cwd()
    known = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    nearest = difflib.get_close_matches(last, sorted(known), n=1)
    if nearest:
        return f"Did you mean {f'{parent}.' if parent else ''}{nearest[0]}?"
    return f"Modules are looked for in the current folder ({Path.cwd()}) and among installed packages."


def _attribute(module: ModuleType, path: str, what: str = "a Topology, or of its factory") -> Any:
    found: Any = module
    for number, name in enumerate(path.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError:
            owner = ".".join([module.__name__, *path.split(".")[:number]])
            topologies = [each for each, value in vars(module).items() if isinstance(value, Topology)]
            nearest = difflib.get_close_matches(name, dir(found), n=1) or topologies[:1]
            mend = f'Did you mean "{nearest[0]}"?' if nearest else f"Give the name of {what}."
            msg = f'{owner} has no attribute "{name}". {mend}'
            raise ConfigError(msg) from None
    return found


def _called(factory: Any, target: str) -> Any:
    if not callable(factory):
        msg = f"{target} calls {_kind(factory)}. Leave out the ()"
        raise ConfigError(msg)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        msg = f"{target} cannot be called without arguments ({error}). Name a factory that needs none"
        raise ConfigError(msg) from None
    try:
        return factory()
    except StreamlibError:
        raise
    except Exception as error:
        raise _failed(f"calling {target}", error) from error


def _failed(doing: str, error: Exception) -> ConfigError:
    return ConfigError(f"{doing} failed: {type(error).__name__}: {error}. --debug shows the traceback")


def _kind(found: Any) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    if inspect.isroutine(found):
        return f"the function {found.__name__}()"
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _mend(found: Any, module: str, path: str, is_call: bool) -> str:
    if callable(getattr(found, "build", None)) and not isinstance(found, type):
        return f"Call build(): topology = {path if not is_call else 'builder'}.build()"
    if inspect.isroutine(found) and not is_call:
        return f"Is it a factory? Then write {module}:{path}()"
    return "Give the name of what StreamsBuilder.build() returned"
