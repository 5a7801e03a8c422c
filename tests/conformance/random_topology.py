"""Random operations in the order of their DSL calls, which Kafka Streams accepts in most cases.

Next: `generate`, which adds steps and writes scenarios.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tests.conformance.random_expressions import Expressions, Type, Values, WindowedType, const

Op: TypeAlias = dict[str, Any]

SERDES = ("string", "string", "json", "long")
WEIGHTS: Mapping[str, int] = {
    "filter": 5,
    "map": 2,
    "map_values": 5,
    "flat_map": 2,
    "flat_map_values": 2,
    "select_key": 3,
    "merge": 3,
    "split": 2,
    "repartition": 2,
    "through": 2,
    "to_dynamic": 1,
    "to_table": 3,
    "to_stream": 3,
    "stream_aggregate": 6,
    "windowed_aggregate": 9,
    "table_aggregate": 5,
    "cogroup": 3,
    "suppress": 4,
    "stream_stream_join": 4,
    "stream_table_join": 4,
    "global_join": 2,
    "table_table_join": 5,
    "foreign_key_join": 4,
    "process": 3,
    "process_values": 3,
}
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "stateless": ("filter", "map", "map_values", "flat_map", "flat_map_values", "select_key", "merge", "split"),
    "topics": ("through", "to_dynamic", "repartition", "merge", "to_table"),
    "table": ("filter", "map_values", "to_table", "to_stream", "table_aggregate"),
    "aggregate": ("stream_aggregate", "table_aggregate", "repartition"),
    "window": ("windowed_aggregate",),
    "cogroup": ("cogroup",),
    "suppress": ("suppress", "windowed_aggregate"),
    "stream-stream": ("stream_stream_join",),
    "stream-table": ("stream_table_join", "to_table"),
    "global": ("global_join",),
    "table-table": ("table_table_join",),
    "foreign-key": ("foreign_key_join",),
    "processor": ("process", "process_values"),
}
"""For each family the operations that come often in it."""


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


class RandomTopology:
    """The operations of a scenario; `ops` has them once the constructor returns.

    Args:
        chance: Where everything random comes from.
        values: Gives plain values.
        scale: What times are multiplied with.
        only: The family whose operations come often, or None.
        failing: How often an expression fails on some values.
        in_memory: Whether stores may ask to be in memory.

    Attributes:
        ops: The operations.
        sources: For each source topic the serdes of keys and values.
        times: Spans of time that the operations know.
    """

    def __init__(self, chance: random.Random, values: Values, *, scale: int, only: str | None, failing: float) -> None:
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
        weights = {
            name: weight * (8 if name in FAMILIES.get(only or "", ()) else 1) for name, weight in WEIGHTS.items()
        }
        for _ in range(chance.choice([1, 2, 2, 3])):
            self._source(chance.choice(["stream", "stream", "table"]))
        wanted = len(self.ops) + chance.randint(2, 8)
        for _ in range(60):
            if len(self.ops) >= wanted:
                break
            self._maker(chance.choices(list(weights), list(weights.values()))[0])()
        self._finish()

    def _maker(self, name: str) -> Callable[[], Any]:
        made: Callable[[], Any] = getattr(self, f"_{name}")
        return made

    def _finish(self) -> None:
        """Write what nobody reads, and a few others, to topics of their own."""
        for handle in [handle for handle in self._handles if handle.kind in {"stream", "table"}]:
            if handle.name not in self._used or self._chance.random() < 0.2:
                self._to(handle, f"out-{handle.name}")

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
        chance, op = self._chance, {}
        if not self._often(self._storing):
            return op
        if self._often(0.75):
            op["store"] = self._new("store-")
            if versioned and self._often(0.25):
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
        branches = []
        for _ in range(self._chance.randint(1, 3)):
            branches.append({"id": self._new("b"), "when": self._expressions.condition(above.env), **self._named()})
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

    # ---- aggregations

    def _grouped(self, *, key: Type | None = None, kept: bool = False) -> Handle | None:
        """A grouping that is there, or a new one of some stream."""
        fits = (lambda h: h.key == key) if key is not None else None
        found = self._pick("grouped", keyed=fits)
        if found is not None and self._often(0.4):
            return found
        above = self._pick("stream")
        if above is None:
            return None
        if isinstance(above.key, WindowedType) and kept and self._often(0.7):
            return None
        if (key is None or above.key == key) and self._often(0.5):
            made = replace(above, name=self._new("g"), kind="grouped")
            return self._add("group_by_key", above, made, **self._named())
        made = replace(above, name=self._new("g"), kind="grouped", key=key or self._serde())
        if isinstance(made.key, WindowedType):
            return None
        fn = self._expressions.of(made.key, above.env, 1)
        return self._add("group_by", above, made, fn=fn, key_serde=made.key, **self._named())

    def _aggregated(self, above: Handle, *, key: Type, stored: Op, merger: bool = False) -> Handle:
        """The count, reduction or aggregation of something grouped."""
        kinds = ["aggregate"] if above.kind == "cogrouped" else ["count", "count", "reduce", "aggregate"]
        op, subtracts = self._chance.choice(kinds), above.kind == "grouped_table"
        value: Type = {"count": "long", "reduce": above.value}.get(op) or self._serde()
        made = Handle(self._new("n"), "table", key, value)
        members: Op = {}
        if op == "reduce":
            env = {"agg": value, "value": value}
            members["fn"] = self._expressions.fold(value, env, "value")
            if subtracts:
                members["subtractor"] = self._expressions.fold(value, env, "value", minus=True)
        elif op == "aggregate":
            env = above.env | {"agg": value}
            init = {"string": "", "long": 0, "json": []}[str(value)]
            members |= {"init": self._chance.choice([init, init, init, None]), "value_serde": value}
            if above.kind != "cogrouped":
                members["fn"] = self._expressions.fold(value, env, "value")
            if subtracts:
                members["subtractor"] = self._expressions.fold(value, env, "value", minus=True)
            if merger:
                members["merger"] = self._expressions.fold(
                    value, {"key": above.key, "agg": value, "other": value}, "other"
                )
        return self._add(op, above, made, **members, **self._named(), **stored)

    def _stream_aggregate(self) -> None:
        above = self._grouped()
        if above is not None:
            versioned = self._often(0.2)
            stored = self._stored(key=above.key, versioned=versioned)
            self._aggregated(above, key=above.key, stored=stored)

    def _windowed_aggregate(self) -> None:
        above = self._grouped(kept=True)
        if above is not None:
            self._windowed(above)

    def _windowed(self, above: Handle) -> None:
        """Windows on something grouped or cogrouped, and their aggregation."""
        chance = self._chance
        kind = chance.choice(["tumbling", "hopping", "sliding", "session", "session", "unlimited"])
        window: Op = {"type": kind}
        if kind in {"tumbling", "hopping"}:
            window["size"] = self._span(5, 10, 20)
            if kind == "hopping":
                window["advance"] = chance.choice([size for size in (2, 3, 5) if size * self._scale <= window["size"]])
                window["advance"] *= self._scale
        elif kind == "unlimited":
            window["start"] = chance.choice([0, 0, self._span(3, 10)])
        else:
            window["diff" if kind == "sliding" else "gap"] = self._span(1, 3, 5, 10)
        if kind != "unlimited" and self._often(0.6):
            window["grace"] = self._span(0, 2, 10, 50)
        long = 2 * window.get("size", 0) + 3 * window.get("diff", window.get("gap", 0)) + window.get("grace", 0)
        stored = self._stored(window=None if kind == "unlimited" else long)
        emit = {}
        if above.kind == "grouped" and kind != "unlimited" and self._often(0.25):
            emit = {"emit": "on_window_close"}
        windowed = self._add("windowed_by", above, replace(above, name=self._new("w")), window=window, **emit)
        self._handles.remove(windowed)
        end = window.get("size", window.get("diff", ""))
        key = WindowedType("session" if kind == "session" else f"{kind}{end}", above.key)
        self._aggregated(windowed, key=key, stored=stored, merger=kind == "session")

    def _table_aggregate(self) -> None:
        above = self._pick("grouped_table") if self._often(0.2) else None
        if above is None:
            table = self._pick("table")
            if table is None:
                return
            made = replace(table, name=self._new("g"), kind="grouped_table", key=self._serde(), value=self._serde())
            above = self._add("group_by", table, made, **self._pair(table, made), **self._named())
        stored = self._stored(key=above.key, versioned=self._often(0.2))
        self._aggregated(above, key=above.key, stored=stored)

    def _cogroup(self) -> None:
        first = self._grouped(kept=True)
        if first is None:
            return
        inputs = [first]
        for _ in range(self._chance.randint(0, 2)):
            other = self._grouped(key=first.key)
            if other is not None and other not in inputs:
                inputs.append(other)
        self._used.update(handle.name for handle in inputs)
        value = self._serde()
        folds = [self._expressions.fold(value, h.env | {"agg": value}, "value") for h in inputs]
        name = self._new("c")
        members = [{"in": h.name, "fn": fold} for h, fold in zip(inputs, folds, strict=True)]
        self.ops.append({"id": name, "op": "cogroup", "inputs": members})
        topics = frozenset[str]().union(*(handle.topics for handle in inputs))
        cogrouped = Handle(name, "cogrouped", first.key, value, topics)
        serdes, self._serdes = self._serdes, [str(value)]
        if self._often(0.5):
            self._windowed(cogrouped)
        else:
            self._aggregated(cogrouped, key=first.key, stored={"store": self._new("store-"), **self._stored(key=first.key)})
        self._serdes = serdes

    def _suppress(self) -> None:
        windowed = self._pick("table", keyed=lambda h: isinstance(h.key, WindowedType))
        above = windowed if windowed is not None and self._often(0.7) else self._pick("table")
        if above is None or above.versioned:
            return
        limits: Op = self._chance.choice([{}, {"max_records": 1}, {"max_records": 3}, {"max_bytes": 200}])
        members: Op = {"until": "time_limit", "time_limit": self._span(0, 3, 10), **limits}
        if isinstance(above.key, WindowedType) and self._often(0.6):
            members = {"until": "window_closes"}
        made = replace(above, name=self._new("n"))
        self._add("suppress", above, made, **members, **self._named())

    # ---- joins

    def _joined(self, op: str, above: tuple[Handle, ...], made: Handle, **members: Any) -> None:
        left, right = above
        env: dict[str, Type] = {"left": left.value, "right": right.value}
        if left.kind == "stream":
            env["key"] = left.key
        joiner = self._expressions.of(made.value, env)
        if self._often(0.6) and made.value in {"json", "string"}:
            joiner = {"fn": "concat", "args": ["left", "right"], "sep": "+"}
        self._add(op, above, made, joiner=joiner, **members)

    def _pair_of(self, left: str, right: str) -> tuple[Handle, Handle] | None:
        above = self._pick(left)
        other = above and self._pick(right, keyed=lambda h: h.key == above.key)
        return (above, other) if above is not None and other is not None else None

    def _stream_stream_join(self) -> None:
        both = self._pair_of("stream", "stream")
        if both is None:
            return
        window = {"before": self._span(0, 3, 10), "after": self._span(0, 3, 10)}
        if self._often(0.1):
            window[self._chance.choice(["before", "after"])] = -self._span(1, 2)
        if self._often(0.5):
            window["grace"] = self._span(0, 2, 10)
        op = self._chance.choice(["join", "left_join", "outer_join"])
        made = replace(both[0], name=self._new("n"), value=self._serde())
        stored = {"store": self._new("store-")} if self._often(self._storing / 2) else {}
        self._joined(op, both, made, window=window, value_serde=made.value, **self._named(), **stored)

    def _stream_table_join(self) -> None:
        both = self._pair_of("stream", "table")
        if both is None:
            return
        grace = {"grace": self._span(0, 3, 10)} if both[1].versioned and self._often(0.5) else {}
        made = replace(both[0], name=self._new("n"), value=self._serde())
        op = self._chance.choice(["join", "left_join"])
        self._joined(op, both, made, value_serde=made.value, **grace, **self._named())

    def _global_join(self) -> None:
        above, table = self._pick("stream"), self._pick("global")
        if table is None or self._often(0.2):
            table = self._source("global_table")
        if above is None:
            return
        made = replace(above, name=self._new("n"), value=self._serde())
        key = self._expressions.of(table.key, above.env, 1)
        op = self._chance.choice(["join", "left_join"])
        self._joined(op, (above, table), made, key=key, value_serde=made.value, **self._named())

    def _table_table_join(self) -> None:
        both = self._pair_of("table", "table")
        if both is None:
            return
        stored = self._stored(key=both[0].key, versioned=True)
        value = self._serde() if stored else "json"
        made = replace(both[0], name=self._new("n"), value=value, versioned="versioned" in stored)
        op = self._chance.choice(["join", "left_join", "outer_join"])
        self._joined(op, both, made, value_serde=value, **self._named(), **stored)

    def _foreign_key_join(self) -> None:
        left, right = self._pick("table"), self._pick("table", keyed=lambda h: isinstance(h.key, str))
        if left is None or right is None:
            return
        stored = self._stored(key=left.key)
        value = self._serde() if stored else "json"
        made = replace(left, name=self._new("n"), value=value, versioned=False)
        fk = self._expressions.of(right.key, left.env, 1)
        if self._often(0.4) and left.value == "json":
            fk = {"string": {"fn": "lower", "args": [_member("a")]}, "long": _member("n"), "json": _member("a")}[
                str(right.key)
            ]
            fk = {"fn": "to_long", "args": [fk]} if right.key == "long" else fk
        op = self._chance.choice(["join", "left_join"])
        self._joined(op, (left, right), made, fk=fk, value_serde=value, **self._named(), **stored)


def _member(name: str) -> Op:
    return {"fn": "field", "args": ["value"], "name": name}
