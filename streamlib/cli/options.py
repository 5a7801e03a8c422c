"""How a command is declared: options with their environment variables, in dataclasses that commands share.

A command is a plain function whose parameters are arguments (``Annotated[str, argument(...)]``) and options
dataclasses; `command` spreads the fields of the latter into flags, so that flags which many commands have are written
once and arrive as one object. Next: `exits`, which every command runs inside.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from streamlib.cli.exits import reported

ENV_PREFIX = "STREAMLIB_"


def option(*flags: str, help: str, scope: str = "", **settings: Any) -> Any:  # noqa: A002
    """A flag that may also be given by the environment variable ``STREAMLIB_[SCOPE_]NAME``.

    Args:
        flags: As the user types them; the first long one names the variable.
        help: What it does, in one line.
        scope: The command's name, for flags whose meaning is the command's own (``--from``, ``--yes``), so that a
            variable set for one command does not change another.
        settings: Anything else that ``typer.Option`` takes.
    """
    long = next(flag for flag in flags if flag.startswith("--"))
    name = long.split("/")[0].removeprefix("--").replace("-", "_").upper()
    prefix = ENV_PREFIX + (f"{scope.upper()}_" if scope else "")
    return typer.Option(*flags, help=help, envvar=prefix + name, **settings)


def argument(metavar: str, help: str) -> Any:  # noqa: A002
    """A positional argument, shown as ``metavar``."""
    return typer.Argument(metavar=metavar, help=help)


@dataclass(frozen=True)
class DebugOptions:
    """What every command has."""

    debug: Annotated[bool, option("--debug", help="Show the traceback of an error.")] = False


def command(function: Callable[..., None] | Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The function as typer takes it: options dataclasses spread out, run to its end, its errors told.

    A coroutine function runs on an event loop of its own.
    """
    signature = inspect.signature(function)
    groups: dict[str, Any] = {
        name: entry.annotation for name, entry in signature.parameters.items() if is_dataclass(entry.annotation)
    }
    flags = list(_flags(signature, groups))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        with reported(debug=given.pop("debug")):
            arguments = {name: given.pop(name) for name in signature.parameters if name not in groups}
            for name, group in groups.items():
                arguments[name] = group(**{entry.name: given[entry.name] for entry in fields(group)})
            result = function(**arguments)
            if result is not None:
                import asyncio

                asyncio.run(result)

    run.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    run.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return run


def _flags(signature: inspect.Signature, groups: dict[str, Any]) -> Iterator[inspect.Parameter]:
    for name, parameter in signature.parameters.items():
        if name in groups:
            yield from _fields(groups[name])
        else:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    yield from _fields(DebugOptions)


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for entry in fields(group):
        yield inspect.Parameter(
            entry.name, inspect.Parameter.KEYWORD_ONLY, default=_default(entry), annotation=hints[entry.name]
        )


def _default(entry: "Field[Any]") -> Any:
    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return inspect.Parameter.empty if entry.default is MISSING else entry.default
