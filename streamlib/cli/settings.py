"""A worker's settings out of four places: defaults, then ``--config FILE``, then flags and their environment variables,
then ``--set name=value``; later ones win. Next: `worker`.
"""

import difflib
import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from streamlib.config import ERROR_HANDLERS, StreamsConfig
from streamlib.errors import ConfigError

FILE_KEYS = ("broker", "security")
"""What a settings file may hold besides StreamsConfig's own names."""

_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def streams_config(
    flags: Mapping[str, Any], sets: Sequence[str] = (), file: Mapping[str, Any] | None = None
) -> StreamsConfig:
    """The config of a worker.

    Args:
        flags: Values of flags by setting's name; None for a flag that was not given.
        sets: ``name=value`` for any setting, dots in names count as underscores.
        file: A settings file, as `read_settings` returns it.

    Raises:
        ConfigError: An unknown name (the nearest one is named), or a value of the wrong type.
    """
    kinds = get_type_hints(StreamsConfig)
    given = {name.replace(".", "_"): value for name, value in (file or {}).items() if name not in FILE_KEYS}
    given |= {name: value for name, value in flags.items() if value is not None}
    for entry in sets:
        name, equals, value = entry.partition("=")
        if not equals:
            msg = f'--set needs name=value, not "{entry}"'
            raise ConfigError(msg)
        given[name.strip().replace(".", "_")] = value.strip()
    return StreamsConfig.from_mapping(
        {name: converted(name, value, kinds[name]) if name in kinds else value for name, value in given.items()}
    )


def read_settings(path: Path) -> dict[str, Any]:
    """A TOML file of settings: StreamsConfig's names, ``broker``, and a table ``[security]``.

    Raises:
        ConfigError: It cannot be read, or it is no TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        msg = f"cannot read the settings file {path}: {error.strerror}"
        raise ConfigError(msg) from None
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is no TOML file: {error}"
        raise ConfigError(msg) from None


def converted(name: str, value: Any, kind: Any) -> Any:
    """A setting's value as its type; text is parsed.

    Raises:
        ConfigError: It does not fit; the message says what would.
    """
    if name in ERROR_HANDLERS:
        return value  # the config understands their text
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in choices and (value is None or value in ("", "none")):
            return None
        return converted(name, value, next(choice for choice in choices if choice is not type(None)))
    if origin is Literal:
        if value in choices:
            return value
        msg = f"{name} is one of {', '.join(choices)}, not {value!r}.{nearest_hint(str(value), choices)}"
        raise ConfigError(msg)
    if origin is not None and issubclass(origin, Mapping):
        return pairs(name, value)
    if origin is tuple:
        texts = value.split(",") if isinstance(value, str) else value
        return tuple(text.strip() for text in texts if text.strip())
    try:
        return _plain(value, kind)
    except ValueError:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, f"a {kind.__name__}")
        msg = f"{name} is {wanted}, not {value!r}"
        raise ConfigError(msg) from None


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """`` Did you mean "..."?``, or nothing when no known name is near."""
    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    return f' Did you mean "{nearest[0]}"?' if nearest else ""


def _plain(value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() not in _BOOLS:
            raise ValueError(value)
        return _BOOLS[value.lower()]
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if isinstance(value, str) and kind in (int, float):
        return kind(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(value)
    return value


def pairs(name: str, value: Any) -> dict[str, str]:
    """Names and values as text, of a table or of ``name=value,name=value``.

    Raises:
        ConfigError: An entry without ``=``; ``name`` is how the message calls the whole.
    """
    if isinstance(value, Mapping):
        return {str(key): str(each).lower() if isinstance(each, bool) else str(each) for key, each in value.items()}
    found: dict[str, str] = {}
    key = ""
    for entry in filter(None, str(value).split(",")):
        head, equals, tail = entry.partition("=")
        if equals:
            key = head.strip()
            found[key] = tail.strip()
        elif key:
            found[key] += f",{entry}"  # a value may hold commas, as cleanup.policy=compact,delete does
        else:
            msg = f"{name} is name=value, not {value!r}"
            raise ConfigError(msg)
    return found
