"""Random operations in the order of their DSL calls, which Kafka Streams accepts in most cases.

Next: `generate`, which adds steps and writes scenarios.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.conformance.random_expressions import Type, Values, WindowedType
from tests.conformance.random_operations import Handle, Op, RandomOperations

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


class RandomTopology(RandomOperations):
    """The operations of a scenario; `ops` has them once the constructor returns.

    Args:
        chance: Where everything random comes from.
        values: Gives plain values.
        scale: What times are multiplied with.
        only: The family whose operations come often, or None.
        failing: How often an expression fails on some values.
    """

    def __init__(self, chance: random.Random, values: Values, *, scale: int, only: str | None, failing: float) -> None:
        super().__init__(chance, values, scale=scale, failing=failing)
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
        spans: dict[str, int] = {"size": 0, "diff": 0, "gap": 0, "grace": 0} | window
        long = 2 * spans["size"] + 3 * (spans["diff"] + spans["gap"]) + spans["grace"]
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
            # Without a store Kafka Streams takes the default serdes.
            stored = {"store": self._new("store-"), **self._stored(key=first.key)}
            self._aggregated(cogrouped, key=first.key, stored=stored)
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
        stream = self._pick("stream")
        if stream is None:
            return
        table = self._pick("table", keyed=lambda h: h.key == stream.key)
        versioned = self._pick("table", keyed=lambda h: h.versioned and h.key == stream.key)
        if versioned is not None and self._often(0.7):
            table = versioned
        elif isinstance(stream.key, str) and (table is None or self._often(0.2)):
            table = self._source("table", (stream.key, self._serde()))
        if table is None:
            return
        both = stream, table
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
