"""Random values, and random expressions over named variables that give a wanted type.

A type is one of a serde (``string``, ``long``, ``json``), ``bool`` for conditions, or a `WindowedType` for the keys of
windowed results. Every type includes null.

Next: `random_topology`, which puts the expressions into operations.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = Any
Expression: TypeAlias = Any


@dataclass(frozen=True)
class WindowedType:
    """The keys of a windowed aggregation: ``shape`` tells windows of one size from others."""

    shape: str
    inner: "Type"


Type: TypeAlias = str | WindowedType

MEMBERS = ("a", "b", "n", "t")
STRINGS = ("a", "b", "c", "aa", "ab", "B", "a b", "7", "é", "")
LONGS = (0, 1, 2, 3, 7, -1, -5, 256, 2**62)
KEYS: Mapping[str, tuple[Json, ...]] = {
    "string": ("a", "b", "c", "aa", "é"),
    "long": (1, 2, 3, -1, 256),
    "json": (1, 2, "a", "b", [1], {"a": 1}, True),
}


def const(value: Json) -> Expression:
    """The expression that is always this value."""
    plain = value is None or isinstance(value, bool | int)
    return value if plain else {"fn": "const", "value": value}


def call(name: str, /, *args: Expression, **static: Json) -> Expression:
    """The call of a function."""
    return {"fn": name, "args": list(args), **static}


class Values:
    """Random keys and values of a type.

    Args:
        chance: Where they come from.
        few: How many different keys there are of each type.
    """

    def __init__(self, chance: random.Random, few: int) -> None:
        self._chance = chance
        self._few = few
        self._keys = {name: chance.sample(keys, min(few, len(keys))) for name, keys in KEYS.items()}

    def key(self, serde: str, null: float = 0.06) -> Json:
        """One of few keys, null at times."""
        return None if self._chance.random() < null else self._chance.choice(self._keys[serde])

    def value(self, serde: str, null: float = 0.12) -> Json:
        """Any value that fits the serde, null at times; JSON values are mostly maps and small numbers."""
        chance = self._chance
        if chance.random() < null:
            return None
        if serde == "string":
            return chance.choice(STRINGS)
        if serde == "long":
            return chance.choice(LONGS)
        kind = chance.random()
        if kind < 0.35:
            return {name: self._member(name) for name in MEMBERS if chance.random() < 0.7}
        if kind < 0.6:
            return chance.randint(-2, 9)
        if kind < 0.85:
            return chance.choice(STRINGS)
        return chance.choice([True, False, [], [1, 2], ["a", None], [["a", 1], ["b", 2]], {}])

    def _member(self, name: str) -> Json:
        if name == "n":
            return self._chance.randint(-1, 5)
        if name == "t":
            return self._chance.randint(-3, 60)
        return self._chance.choice([None, *self._keys["string"], *self._keys["json"]])


class Expressions:
    """Random expressions.

    Args:
        chance: Where they come from.
        failing: How often an expression fails on some values.
    """

    def __init__(self, chance: random.Random, failing: float = 0.0) -> None:
        self._chance = chance
        self._failing = failing

    def of(self, wanted: Type, env: Mapping[str, Type], depth: int = 2) -> Expression:
        """An expression of a type over variables of given types."""
        made = self._made(str(wanted), env, depth)
        if self._chance.random() < self._failing:
            return call("fail_if", self._made("bool", env, 1), made)
        return made

    def condition(self, env: Mapping[str, Type]) -> Expression:
        """An expression that is true for some records and false for others."""
        return self.of("bool", env)

    def _made(self, wanted: str, env: Mapping[str, Type], depth: int) -> Expression:
        chance = self._chance
        if depth > 0 and chance.random() < 0.12:
            return call(
                "if", self._made("bool", env, depth - 1), *(self._made(wanted, env, depth - 1) for _ in range(2))
            )
        if depth > 0 and wanted != "bool" and chance.random() < 0.1:
            return call("coalesce", self._made(wanted, env, depth - 1), self._made(wanted, env, depth - 1))
        made: Expression = getattr(self, f"_{wanted}")(env, depth)
        return made

    def _variable(self, wanted: str | None, env: Mapping[str, Type]) -> Expression:
        """A variable of the type or, where there is none, of any."""
        fitting = [name for name, kind in env.items() if wanted in {None, kind}]
        return self._chance.choice(fitting or list(env))

    def _any(self, env: Mapping[str, Type], depth: int) -> Expression:
        """An expression of whatever type."""
        if depth <= 0:
            return self._variable(None, env)
        return self._made(self._chance.choice(["string", "long", "json", "json"]), env, depth - 1)

    def _string(self, env: Mapping[str, Type], depth: int) -> Expression:
        chance = self._chance
        mine = [name for name, kind in env.items() if kind == "string"]
        if mine and chance.random() < 0.45:
            return chance.choice(mine)
        inner = [name for name, kind in env.items() if isinstance(kind, WindowedType) and kind.inner == "string"]
        if inner and chance.random() < 0.6:
            return call("field", chance.choice(inner), name="key")
        pick = chance.randrange(6)
        if pick == 0:
            return call(chance.choice(["upper", "lower"]), self._any(env, depth - 1))
        if pick == 1:
            return call("prefix", call("str", self._any(env, depth - 1)), n=chance.randint(0, 2))
        if pick == 2:
            parts = [self._any(env, depth - 1) for _ in range(chance.randint(1, 2))]
            return call("concat", *parts, sep=chance.choice(["", "+", "|"]))
        if pick == 3:
            return call("lower", call("field", self._variable("json", env), name=chance.choice(MEMBERS)))
        if pick == 4:
            return const(chance.choice(STRINGS))
        return call("str", self._any(env, depth - 1))

    def _long(self, env: Mapping[str, Type], depth: int) -> Expression:
        chance = self._chance
        mine = [name for name, kind in env.items() if kind == "long"]
        if mine and chance.random() < 0.45:
            return chance.choice(mine)
        windowed = [name for name, kind in env.items() if isinstance(kind, WindowedType)]
        if windowed and chance.random() < 0.4:
            return call("to_long", call("field", chance.choice(windowed), name=chance.choice(["start", "end", "key"])))
        pick = chance.randrange(6)
        if pick == 0:
            return chance.choice(LONGS)
        if pick == 1:
            return call("to_long", self._any(env, depth - 1))
        if pick == 2:
            return call("length", self._any(env, depth - 1))
        if pick == 3 and depth > 0:
            return call(chance.choice(["min", "max"]), *(self._made("long", env, depth - 1) for _ in range(2)))
        if pick == 4 and depth > 0:
            operation = chance.choice(["add", "sub", "mul", "mod"])
            return call(operation, self._made("long", env, depth - 1), self._made("long", env, depth - 1))
        return call("to_long", call("field", self._variable("json", env), name=chance.choice(["n", "t", "a"])))

    def _json(self, env: Mapping[str, Type], depth: int) -> Expression:
        chance = self._chance
        if chance.random() < 0.35:
            return self._variable(None, env)
        pick = chance.randrange(9)
        if pick == 0:
            return call("set", self._any(env, depth - 1), self._any(env, depth - 1), name=chance.choice(MEMBERS))
        if pick == 1:
            names = chance.sample(MEMBERS, chance.randint(1, 2))
            return {"fn": "obj", "fields": {name: self._any(env, depth - 1) for name in names}}
        if pick == 2:
            return call("list", self._any(env, depth - 1), self._any(env, depth - 1))
        if pick == 3:
            return call("at", self._any(env, depth - 1), chance.choice([0, 1, -1]))
        if pick == 4:
            return call(
                chance.choice(["append", "extend", "remove_first"]), self._any(env, depth - 1), self._any(env, 0)
            )
        if pick == 5:
            return call("split_words", self._any(env, depth - 1))
        if pick == 6 and depth > 0:
            return self._made(chance.choice(["string", "long", "bool"]), env, depth - 1)
        return call("field", self._any(env, depth - 1), name=chance.choice([*MEMBERS, "key"]))

    def _bool(self, env: Mapping[str, Type], depth: int) -> Expression:
        chance = self._chance
        pick = chance.randrange(8)
        if pick == 0:
            return call("is_null", self._variable(None, env))
        if pick == 1:
            other = self._any(env, 0) if chance.random() < 0.3 else const(chance.choice([*STRINGS, *LONGS]))
            return call(chance.choice(["eq", "ne"]), self._any(env, depth - 1), other)
        if pick == 2 and depth > 0:
            return call(chance.choice(["and", "or"]), *(self._made("bool", env, depth - 1) for _ in range(2)))
        if pick == 3 and depth > 0:
            return call("not", self._made("bool", env, depth - 1))
        if pick == 4:
            length = call("length", call("str", self._any(env, 0)))
            return call("eq", call("mod", length, chance.choice([2, 3])), chance.choice([0, 1]))
        if pick == 5:
            text = call("str", self._any(env, depth - 1))
            return call(chance.choice(["lt", "ge"]), text, const(chance.choice(STRINGS)))
        compared = self._made("long", env, depth - 1) if depth > 0 else self._variable("long", env)
        return call(chance.choice(["lt", "le", "gt", "ge"]), compared, chance.randint(-1, 4))

    def elements(self, env: Mapping[str, Type], element: Type) -> Expression:
        """A list whose elements have a type; at times no list at all."""
        pick = self._chance.random()
        if element in {"json", "string"} and pick < 0.3:
            return call("split_words", self._any(env, 1))
        if pick < 0.4:
            return call("if", self.condition(env), call("list", self.of(element, env, 1)), None)
        return call("list", *(self.of(element, env, 1) for _ in range(self._chance.randint(1, 2))))

    def fold(self, wanted: Type, env: Mapping[str, Type], other: str, *, minus: bool = False) -> Expression:
        """An aggregator, subtractor or merger of ``agg`` and another variable; it uses ``agg`` once at most."""
        chance = self._chance
        if wanted == "string":
            return call("concat", "agg", const("-" if minus else "+"), other)
        if wanted == "long":
            rest = {name: kind for name, kind in env.items() if name != "agg"}
            step = other if env.get(other) == "long" else self._made("long", rest, 1)
            return call("sub" if minus else chance.choice(["add", "max"]), call("coalesce", "agg", 0), step)
        if chance.random() < 0.1:
            return call("if", self._made("bool", {other: env[other]}, 1), None, call("append", "agg", other))
        if minus:
            return call("remove_first", "agg", other) if chance.random() < 0.7 else call("append", "agg", const("-"))
        return call("extend" if other == "other" else "append", "agg", other)
