"""Random sources and sinks, and operations that take one record after another. Next: `random_topology`."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tests.conformance.random_expressions import Expressions, Type, Values, const

Op: TypeAlias = dict[str, Any]

SERDES = ("string", "string", "json", "long")


@dataclass(frozen=True)
class Handle:
    """What an id stands for.

    Attributes:
        name: The id.
        kind: ``stream``, ``table``, ``grouped``, ``grouped_table``, ``cogrouped`` or ``global``.
        key: The type of its keys.
        value: The type of its values.
        topics: The sources that lead to it.
        versioned: A versioned store is above, whose rows a suppression does not take.
    """

    name: str
    kind: str
    key: Type
    value: Type
    topics: frozenset[str] = frozenset()
    versioned: bool = False

    @property
    def env(self) -> dict[str, Type]:
        """The variables of a function on its records."""
        return {"key": self.key, "value": self.value}


class RandomOperations:
    """What random operations are made of: handles, names, stores; and those that take one record after another.

    Args:
        chance: Where everything random comes from.
        values: Gives plain values.
        scale: What times are multiplied with.
        failing: How often an expression fails on some values.

    Attributes:
        ops: The operations.
        sources: For each source topic the serdes of keys and values.
        times: Spans of time that the operations know.
    """

    def __init__(self, chance: random.Random, values: Values, *, scale: int, failing: float) -> None:
        self._chance, self._values, self._scale = chance, values, scale
        self._expressions = Expressions(chance, failing)
        self.ops: list[Op] = []
        self.sources: dict[str, tuple[str, str]] = {}
        self.times: set[int] = {scale}
        self._handles: list[Handle] = []
        self._used: set[str] = set()
        self._stores: list[tuple[str, Type]] = []
        self._numbers: dict[str, int] = {}
        self._written: dict[str, set[str]] = {}
        self._naming, self._storing = chance.choice([0.0, 0.2, 0.2, 0.8]), chance.choice([0.2, 0.5, 0.9])
        self._serdes = chance.sample(SERDES, 1) * 3 + list(SERDES)

    # ---- what operations are made of

    def _new(self, prefix: str) -> str:
        self._numbers[prefix] = self._numbers.get(prefix, 0) + 1
        return f"{prefix}{self._numbers[prefix]}"

    def _often(self, often: float) -> bool:
        return self._chance.random() < often

    def _serde(self) -> str:
        return self._chance.choice(self._serdes)

    def _span(self, *spans: int) -> int:
        span = self._chance.choice(spans) * self._scale
        self.times.add(abs(span))
        return span

    def _add(self, op: str, above: Handle | tuple[Handle, ...], made: Handle, **members: Any) -> Handle:
        """Adds an operation, and returns what it makes."""
        inputs = (above,) if isinstance(above, Handle) else above
        names = [handle.name for handle in inputs]
        self._used.update(names)
        self.ops.append({"id": made.name, "op": op, "in": names[0] if isinstance(above, Handle) else names, **members})
        topics = frozenset[str]().union(*(handle.topics for handle in inputs))
        result = replace(made, topics=topics)
        self._handles.append(result)
        return result

    def _pick(self, *kinds: str, keyed: Callable[[Handle], bool] | None = None) -> Handle | None:
        """One of the handles of some kinds, the latest more often."""
        found = [h for h in self._handles if h.kind in kinds and (keyed is None or keyed(h))]
        return self._chance.choice([*found, *found[-2:]]) if found else None

    def _named(self) -> Op:
        return {"name": self._new("name-")} if self._often(self._naming) else {}

    def _stored(self, *, key: Type | None = None, window: int | None = None, versioned: bool = False) -> Op:
        """The members of a store, which may be none. ``key`` if a processor may look into it."""
        chance = self._chance
        op: Op = {}
        if not self._often(self._storing):
            return op
        if self._often(0.75):
            op["store"] = self._new("store-")
            if versioned and self._often(0.35):
                return op | {"versioned": self._span(5, 20, 100)}
            if key is not None and window is None:
                self._stores.append((op["store"], key))
        else:
            op["materialize"] = True
        if window is not None and self._often(0.3):
            op["retention"] = window + self._span(0, 1, 10, 50)
        if self._often(0.15):
            op["caching"] = chance.choice([True, False, False])
        if self._often(0.1):
            op["logging"] = False
        if self._often(0.1):
            op["store_type"] = "in_memory"
        return op

    # ---- sources and sinks

    def _source(self, op: str, serdes: tuple[str, str] | None = None) -> Handle:
        topic, (key, value) = self._new("in-"), serdes or (self._serde(), self._serde())
        self.sources[topic] = key, value
        members: Op = {"topic": topic, "key_serde": key, "value_serde": value, **self._named()}
        if op == "stream" and self._often(0.1):
            other = self._new("in-")
            self.sources[other] = key, value
            members["topics"] = [members.pop("topic"), other]
        else:
            other = topic
        if op != "global_table" and self._often(0.12):
            late = self._chance.choice(["skip", "partition_time"])
            members["ts"] = self._chance.choice(["record", "log_and_skip", {"field": "t", "invalid": late}])
        if op != "stream":
            members |= self._stored(key=key if op == "table" else None, versioned=op == "table")
        if op == "global_table":  # Kafka Streams takes a store of it only with a name, and logs none
            members.pop("materialize", None)
        kind = {"global_table": "global"}.get(op, op)
        made = Handle(self._new("s"), kind, key, value, frozenset({topic, other}), "versioned" in members)
        self.ops.append({"id": made.name, "op": op, **members})
        self._handles.append(made)
        if op == "stream" and self._often(0.05):
            self.ops.append({**self.ops[-1], "id": self._new("s")})
            self.ops[-1].pop("name", None)
            self._handles.append(replace(made, name=self.ops[-1]["id"]))
        return made

    def _to(self, handle: Handle, topic: str) -> None:
        above = self._plain_stream(handle)
        self._used.add(above.name)
        self.ops.append({"op": "to", "in": above.name, "topic": topic, **self._named()})

    def _plain_stream(self, handle: Handle) -> Handle:
        if handle.kind == "stream":
            return handle
        return self._add("to_stream", handle, replace(handle, name=self._new("n"), kind="stream"), **self._named())

    def _leads(self, topics: frozenset[str]) -> set[str]:
        """The topics, and those from which they are written."""
        found, waiting = set[str](), list(topics)
        while waiting:
            topic = waiting.pop()
            if topic not in found:
                found.add(topic)
                waiting += self._written.get(topic, ())
        return found

    def _through(self) -> None:
        """Writes to a topic that is read: a new one, or one that is read already and does not lead here."""
        above = self._pick("stream", keyed=lambda h: isinstance(h.key, str))
        if above is None:
            return
        fitting = [
            topic
            for topic, serdes in self.sources.items()
            if serdes == (above.key, above.value) and topic not in self._leads(above.topics)
        ]
        if fitting and self._often(0.6):
            topic = self._chance.choice(fitting)
        else:
            kind = self._chance.choice(["stream", "stream", "table", "global_table"])
            topic = min(self._source(kind, (str(above.key), str(above.value))).topics)
        self._written.setdefault(topic, set()).update(above.topics)
        self._to(above, topic)

    def _to_dynamic(self) -> None:
        above = self._pick("stream", keyed=lambda h: h.key == "string" and h.value == "json")
        if above is not None and not any("topic_fn" in op for op in self.ops):
            prefix = {"fn": "prefix", "args": [{"fn": "str", "args": ["key"]}], "n": 1}
            self._used.add(above.name)
            name = {"fn": "concat", "args": [const("to-"), {"fn": "length", "args": [prefix]}]}
            self.ops.append({"op": "to", "in": above.name, "topic_fn": name, **self._named()})

    # ---- one record after another

    def _filter(self) -> None:
        above = self._pick("stream", "table", "table")
        if above is not None:
            stored = self._stored(key=above.key) if above.kind == "table" else {}
            fn = self._expressions.condition(above.env)
            made = replace(above, name=self._new("n"), versioned=above.versioned and not stored)
            self._add(self._chance.choice(["filter", "filter_not"]), above, made, fn=fn, **self._named(), **stored)

    def _map_values(self) -> None:
        above = self._pick("stream", "table", "table")
        if above is None:
            return
        stored = self._stored(key=above.key) if above.kind == "table" else {}
        value = self._serde() if stored or above.kind == "stream" else "json"
        made = replace(above, name=self._new("n"), value=value, versioned=above.versioned and not stored)
        fn = self._expressions.of(value, above.env)
        self._add("map_values", above, made, fn=fn, value_serde=value, **self._named(), **stored)

    def _map(self) -> None:
        above = self._pick("stream")
        if above is not None:
            made = replace(above, name=self._new("n"), key=self._serde(), value=self._serde())
            self._add("map", above, made, **self._pair(above, made), **self._named())

    def _pair(self, above: Handle, made: Handle) -> Op:
        key, value = self._expressions.of(made.key, above.env, 1), self._expressions.of(made.value, above.env, 1)
        return {"key": key, "value": value, "key_serde": made.key, "value_serde": made.value}

    def _flat_map(self) -> None:
        above = self._pick("stream")
        if above is None:
            return
        made = replace(above, name=self._new("n"), key=self._serde(), value=self._serde())
        pairs = [
            {"fn": "list", "args": [self._expressions.of(kind, above.env, 1) for kind in (made.key, made.value)]}
            for _ in range(self._chance.randint(1, 2))
        ]
        fn = {"fn": "list", "args": [*pairs, *([const("skipped")] if self._often(0.1) else [])]}
        self._add("flat_map", above, made, fn=fn, key_serde=made.key, value_serde=made.value, **self._named())

    def _flat_map_values(self) -> None:
        above = self._pick("stream")
        if above is not None:
            made = replace(above, name=self._new("n"), value=self._serde())
            fn = self._expressions.elements(above.env, made.value)
            self._add("flat_map_values", above, made, fn=fn, value_serde=made.value, **self._named())

    def _select_key(self) -> None:
        above = self._pick("stream")
        if above is not None:
            made = replace(above, name=self._new("n"), key=self._serde())
            fn = self._expressions.of(made.key, above.env, 1)
            self._add("select_key", above, made, fn=fn, key_serde=made.key, **self._named())

    def _merge(self) -> None:
        above = self._pick("stream")
        other = above and self._pick("stream", keyed=lambda h: (h.key, h.value) == (above.key, above.value))
        if above is not None and other is not None:
            self._add("merge", (above, other), replace(above, name=self._new("n")), **self._named())

    def _split(self) -> None:
        above = self._pick("stream")
        if above is None:
            return
        self._used.add(above.name)
        branches = [
            {"id": self._new("b"), "when": self._expressions.condition(above.env), **self._named()}
            for _ in range(self._chance.randint(1, 3))
        ]
        op: Op = {"op": "split", "in": above.name, "branches": branches, **self._named()}
        if self._often(0.6):
            op["default"] = {"id": self._new("b"), **self._named()}
        self.ops.append(op)
        for branch in [*branches, *([op["default"]] if "default" in op else [])]:
            self._handles.append(replace(above, name=branch["id"]))

    def _repartition(self) -> None:
        above = self._pick("stream")
        if above is not None:
            partitions = {"partitions": self._chance.choice([1, 3])} if self._often(0.2) else {}
            self._add("repartition", above, replace(above, name=self._new("n")), **partitions, **self._named())

    def _to_table(self) -> None:
        above = self._pick("stream")
        if above is not None:
            stored = self._stored(key=above.key, versioned=True)
            made = replace(above, name=self._new("n"), kind="table", versioned="versioned" in stored)
            self._add("to_table", above, made, **self._named(), **stored)

    def _to_stream(self) -> None:
        above = self._pick("table")
        if above is None:
            return
        if self._often(0.5):
            self._plain_stream(above)
            return
        made = replace(above, name=self._new("n"), kind="stream", key=self._serde())
        key = self._expressions.of(made.key, above.env, 1)
        self._add("to_stream", above, made, key=key, key_serde=made.key, **self._named())

    def _process(self) -> None:
        above = self._pick("stream")
        if above is None:
            return
        chance, made = self._chance, replace(above, name=self._new("n"))
        members: Op = {"processor": chance.choice(["dedup", "buffer_flush", "running_total", "header", "timestamp"])}
        if members["processor"] in {"dedup", "buffer_flush", "running_total"}:
            members["store"] = self._new("own-")
        if members["processor"] == "dedup":
            members["within_ms"] = self._span(1, 5, 20)
        elif members["processor"] == "buffer_flush":
            members |= {"interval_ms": self._span(2, 5, 13), "clock": chance.choice(["stream", "wall"])}
        elif members["processor"] == "running_total":
            members["ttl_ms"] = self._span(3, 10, 30)
            made = replace(made, value="json")
            members["value_serde"] = "json"
        elif members["processor"] == "header":
            fn = self._expressions.of("json", above.env, 1)
            members |= {"header": chance.choice(["h", "g"]), "fn": fn, "replace": self._often(0.5)}
        else:
            env = above.env | {"ts": "long"}
            members["fn"] = {"fn": "add", "args": ["ts", self._expressions.of("long", env, 1)]}
            if self._often(0.5):
                members["fn"] = {"fn": "add", "args": ["ts", self._span(-9, -1, 1, 9)]}
        self._add("process", above, made, **members, **self._named())

    def _process_values(self) -> None:
        above = self._pick("stream")
        if above is None:
            return
        made = replace(above, name=self._new("n"), value="json")
        stores = [name for name, key in self._stores if key == above.key]
        members: Op = {"processor": "meta"}
        if stores and self._often(0.6):
            members = {"processor": "lookup", "store": self._chance.choice(stores)}
        self._add("process_values", above, made, **members, **self._named())
