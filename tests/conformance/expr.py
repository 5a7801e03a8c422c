"""The expressions of scenarios as Python functions.

Values are None, booleans, 64-bit integers, strings, lists and dicts, and as keys `Windowed`. An expression never fails,
except for ``fail_if``.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from streamlib.record import Windowed
from streamlib.serdes import AnySerde, Serde

Env = Mapping[str, Any]
Expression = Callable[[Env], Any]

_LONG = re.compile(r"-?[0-9]{1,18}")
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def function(expression: Any, *names: str) -> Callable[..., Any]:
    """A function of the named variables."""
    evaluate = compiled(expression)
    return lambda *values: evaluate(dict(zip(names, values, strict=True)))


def predicate(expression: Any) -> Callable[[Any, Any], bool]:
    """A function of key and value that holds only where the expression gives ``true``."""
    evaluate = function(expression, "key", "value")
    return lambda key, value: evaluate(key, value) is True


def compiled(expression: Any) -> Expression:
    """The expression as a function of its variables."""
    if isinstance(expression, str):
        return lambda env: env[expression]
    if not isinstance(expression, dict):
        return lambda env: expression
    name = expression["fn"]
    if name == "const":
        return lambda env: expression["value"]
    if name == "obj":
        fields = {field: compiled(value) for field, value in expression["fields"].items()}
        return lambda env: {field: evaluate(env) for field, evaluate in fields.items()}
    arguments = [compiled(argument) for argument in expression.get("args", [])]
    if "args" not in expression:
        arguments = [lambda env: env.get("value")]
    if name == "if":
        condition, then, otherwise = arguments
        return lambda env: then(env) if condition(env) is True else otherwise(env)
    implementation = FUNCTIONS[name]
    return lambda env: implementation(expression, [argument(env) for argument in arguments])


def plain(value: Any) -> Any:
    """The value with windowed keys as dicts."""
    if isinstance(value, Windowed):
        return {"key": plain(value.key), "start": value.start, "end": value.end}
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    return value


def canonical(value: Any) -> str:
    """Canonical JSON: sorted members, no white space, non-ASCII characters as they are."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def text(value: Any) -> str:
    """The text of a value."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return value
    if isinstance(value, Windowed):
        return f"[{text(value.key)}@{value.start}/{value.end}]"
    return canonical(value)


def _no_float(digits: str) -> Any:
    msg = f"scenarios have no numbers but integers: {digits}"
    raise ValueError(msg)


JSON: AnySerde = Serde(
    "canonical json",
    lambda value: canonical(value).encode(),
    lambda data: json.loads(data, parse_float=_no_float),
)
"""The scenarios' ``json`` serde."""


def _is_long(value: Any) -> bool:
    return type(value) is int


def _equal(x: Any, y: Any) -> bool:
    return canonical(x) == canonical(y)


def wrapped(number: int) -> int:
    """A number as 64 bits hold it."""
    return (number + 2**63) % 2**64 - 2**63


def _arithmetic(operation: Callable[[int, int], int | None]) -> Callable[[Any, list[Any]], int | None]:
    def evaluate(_: Any, args: list[Any]) -> int | None:
        x, y = _two(args)
        result = operation(x, y) if _is_long(x) and _is_long(y) else None
        return None if result is None else wrapped(result)

    return evaluate


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[Any, list[Any]], bool]:
    def evaluate(_: Any, args: list[Any]) -> bool:
        x, y = _two(args)
        if _is_long(x) and _is_long(y):
            return holds(x, y)
        return isinstance(x, str) and isinstance(y, str) and holds(x.encode(), y.encode())

    return evaluate


def _two(args: list[Any]) -> tuple[Any, Any]:
    x, y, *_ = [*args, None, None]
    return x, y


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _field(e: Any, args: list[Any]) -> Any:
    x = plain(args[0]) if isinstance(args[0], Windowed) else args[0]
    return x.get(e["name"]) if isinstance(x, dict) else None


def _set(e: Any, args: list[Any]) -> Any:
    x, y = _two(args)
    return {**(x if isinstance(x, dict) else {}), e["name"]: y}


def _at(_: Any, args: list[Any]) -> Any:
    x, y = _two(args)
    if not isinstance(x, list) or not _is_long(y):
        return None
    index = y + len(x) if y < 0 else y
    return x[index] if 0 <= index < len(x) else None


def _remove_first(_: Any, args: list[Any]) -> list[Any]:
    x, y = _two(args)
    elements = _list(x)
    found = next((index for index, element in enumerate(elements) if _equal(element, y)), len(elements))
    return elements[:found] + elements[found + 1 :]


def _to_long(_: Any, args: list[Any]) -> int | None:
    x = args[0]
    if isinstance(x, str):
        return int(x) if _LONG.fullmatch(x) else None
    return int(x) if _is_long(x) else None


def _fail_if(_: Any, args: list[Any]) -> Any:
    x, y = _two(args)
    if x is True:
        msg = "fail_if"
        raise RuntimeError(msg)
    return y


def _text_only(change: Callable[[Any, str], Any], otherwise: Any = None) -> Callable[[Any, list[Any]], Any]:
    return lambda e, args: change(e, args[0]) if isinstance(args[0], str) else otherwise


FUNCTIONS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "field": _field,
    "set": _set,
    "list": lambda _, args: args,
    "at": _at,
    "append": lambda _, args: [*_list(args[0]), _two(args)[1]],
    "extend": lambda _, args: _list(args[0]) + _list(_two(args)[1]),
    "remove_first": _remove_first,
    "upper": _text_only(lambda _, x: x.translate(_UPPER)),
    "lower": _text_only(lambda _, x: x.translate(_LOWER)),
    "length": lambda _, args: len(args[0]) if isinstance(args[0], str | list | dict) else None,
    "prefix": _text_only(lambda e, x: x[: max(0, e["n"])]),
    "split_words": lambda _, args: [w for w in args[0].split(" ") if w] if isinstance(args[0], str) else [],
    "str": lambda _, args: text(args[0]),
    "concat": lambda e, args: e.get("sep", "").join(map(text, args)),
    "to_long": _to_long,
    "add": _arithmetic(lambda x, y: x + y),
    "sub": _arithmetic(lambda x, y: x - y),
    "mul": _arithmetic(lambda x, y: x * y),
    "mod": _arithmetic(lambda x, y: x % y if y else None),
    "min": lambda _, args: min(filter(_is_long, args), default=None),
    "max": lambda _, args: max(filter(_is_long, args), default=None),
    "eq": lambda _, args: _equal(*_two(args)),
    "ne": lambda _, args: not _equal(*_two(args)),
    "lt": _ordered(lambda x, y: x < y),
    "le": _ordered(lambda x, y: x <= y),
    "gt": _ordered(lambda x, y: x > y),
    "ge": _ordered(lambda x, y: x >= y),
    "and": lambda _, args: all(value is True for value in args),
    "or": lambda _, args: any(value is True for value in args),
    "not": lambda _, args: args[0] is not True,
    "is_null": lambda _, args: args[0] is None,
    "coalesce": lambda _, args: next((value for value in args if value is not None), None),
    "fail_if": _fail_if,
}
