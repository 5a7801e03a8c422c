"""The operations of a scenario as calls of the DSL, as the Java oracle makes them: same calls, same order, same names.

Serdes are always passed explicitly. What the DSL does not have yet is told by `missing`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any

from streamlib import (
    Branched,
    BufferConfig,
    EmitStrategy,
    JoinWindows,
    RecordContext,
    SessionWindows,
    SlidingWindows,
    Stores,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Topology,
    UnlimitedWindows,
    serdes,
)
from streamlib.serdes import AnySerde
from streamlib.serdes.windowed import time_windowed_ms
from streamlib.topology.windows import FixedWindows
from tests.conformance.expr import JSON, function, predicate, text
from tests.conformance.processors import FillGlobal, Supplier, Transformer, values_supplier

Op = dict[str, Any]

JOINS = {"join", "left_join", "outer_join"}
TABLE_MAKERS = {"transform_values", "table", "to_table", "count", "reduce", "aggregate", "suppress"}
NOT_YET: set[str] = set()
JOINS_THERE_ARE = {
    "foreign-key join",
    "table-table join",
    "stream-stream join",
    "stream-table join",
    "stream-global join",
}
WINDOWS_NOT_YET: set[str] = set()


@dataclass(frozen=True)
class Handle:
    """A stream, table or grouping, with the serdes of its keys and values; ``windows`` once it is windowed."""

    dsl: Any
    key_serde: AnySerde
    value_serde: AnySerde
    windows: FixedWindows | SessionWindows | None = None


def missing(scenario: dict[str, Any]) -> set[str]:
    """What a scenario needs that the DSL does not have."""
    kinds: dict[str, str] = {}
    found: set[str] = set()
    for op in scenario["topology"]:
        name, inputs = op["op"], op.get("in", [])
        above = [kinds.get(i, "stream") for i in ([inputs] if isinstance(inputs, str) else inputs)]
        if name in {"filter", "filter_not", "map_values", *JOINS}:
            kind = above[0]
        else:
            kind = "table" if name in TABLE_MAKERS else "global" if name == "global_table" else "stream"
        kinds[op.get("id", "")] = kind
        if name in JOINS:
            found |= {"foreign-key join" if "fk" in op else f"{above[0]}-{above[1]} join"} - JOINS_THERE_ARE
        found |= {name} & NOT_YET
        found |= {f"{window} window" for window in {op.get("window", {}).get("type")} & WINDOWS_NOT_YET}
    return found


class Build:
    """The topology of a scenario.

    Attributes:
        inputs: For each source topic, its serdes.
        outputs: For each sink topic, its serdes.
        dynamic_output: Serdes of a sink that names its topics by a function.
    """

    def __init__(self, scenario: dict[str, Any]) -> None:
        config = scenario.get("config", {})
        in_memory = config.get("stores") == "in_memory"
        self._optimization = config.get("topology.optimization", "none")
        self.builder = StreamsBuilder("app", default_key_serde=JSON, default_value_serde=JSON, in_memory=in_memory)
        self.inputs: dict[str, tuple[AnySerde, AnySerde]] = {}
        self.outputs: dict[str, tuple[AnySerde, AnySerde]] = {}
        self.dynamic_output: tuple[AnySerde, AnySerde] | None = None
        self._piped = {step["topic"] for step in scenario["steps"] if "topic" in step}
        self._handles: dict[str, Handle] = {}
        self._make_all(scenario["topology"])

    def topology(self) -> Topology:
        """The finished topology."""
        return self.builder.build(optimization=self._optimization)

    def _make_all(self, ops: list[Op]) -> None:
        for op in ops:
            handle = self._make(op)
            if handle is not None and "id" in op:
                self._handles[op["id"]] = handle

    def _make(self, op: Op) -> Handle | None:
        name = op["op"]
        if name in JOINS:
            return self._join(op)
        if name in {"count", "reduce", "aggregate"}:
            return self._aggregate(op)
        make: Callable[[Op], Handle | None] = getattr(self, f"_{name}")
        return make(op)

    def _in(self, op: Op) -> Handle:
        return self._handles[op["in"]]

    def _stream(self, op: Op) -> Handle:
        keys, values = key_serde(op), value_serde(op)
        if "pattern" in op:
            pattern = re.compile(op["pattern"])
            self.inputs |= dict.fromkeys(filter(pattern.fullmatch, self._piped), (keys, values))
            return Handle(self.builder.stream(pattern, keys, values, **consumed(op)), keys, values)
        topics = op["topics"] if "topics" in op else [op["topic"]]
        self.inputs |= dict.fromkeys(topics, (keys, values))
        return Handle(self.builder.stream(topics, keys, values, **consumed(op)), keys, values)

    def _table(self, op: Op) -> Handle:
        keys, values = key_serde(op), value_serde(op)
        self.inputs[op["topic"]] = keys, values
        table = self.builder.table(op["topic"], keys, values, **consumed(op), **materialized(op))
        return Handle(table, keys, values)

    def _global_table(self, op: Op) -> Handle:
        keys, values = key_serde(op), value_serde(op)
        self.inputs[op["topic"]] = keys, values
        table = self.builder.global_table(op["topic"], keys, values, **consumed(op), **materialized(op))
        return Handle(table, keys, values)

    def _global_store(self, op: Op) -> None:
        keys, values = key_serde(op), value_serde(op)
        self.inputs[op["topic"]] = keys, values
        spec = Stores.timestamped_key_value_store(op["store"], keys, values)
        fill = partial(FillGlobal, op)
        self.builder.add_global_store(spec, op["topic"], fill, key_serde=keys, value_serde=values, **named(op))

    def _transform_values(self, op: Op) -> Handle:
        n, store = self._in(op), materialized(op)
        # A table operation without a store takes no serde in Java.
        values = value_serde(op) if store else JSON
        used = [op["uses"]] if "uses" in op else []
        made = n.dsl.transform_values(partial(Transformer, op), *used, value_serde=values, **named(op), **store)
        return Handle(made, n.key_serde, values)

    def _filter(self, op: Op) -> Handle:
        n = self._in(op)
        method = n.dsl.filter if op["op"] == "filter" else n.dsl.filter_not
        return Handle(method(predicate(op["fn"]), **named(op), **materialized(op)), n.key_serde, n.value_serde)

    _filter_not = _filter

    def _map_values(self, op: Op) -> Handle:
        n, mapper, store = self._in(op), function(op["fn"], "key", "value"), materialized(op)
        # A table operation without a store takes no serde in Java.
        values = value_serde(op) if store or hasattr(n.dsl, "group_by_key") else JSON
        made = n.dsl.map_values(mapper, with_key=True, value_serde=values, **named(op), **store)
        return Handle(made, n.key_serde, values)

    def _map(self, op: Op) -> Handle:
        keys, values, mapper = key_serde(op), value_serde(op), pair(op)
        made = self._in(op).dsl.map(mapper, key_serde=keys, value_serde=values, **named(op))
        return Handle(made, keys, values)

    def _flat_map(self, op: Op) -> Handle:
        keys, values, pairs = key_serde(op), value_serde(op), function(op["fn"], "key", "value")

        def mapper(key: Any, value: Any) -> list[tuple[Any, Any]]:
            found = pairs(key, value)
            found = found if isinstance(found, list) else []
            return [tuple(entry) for entry in found if isinstance(entry, list) and len(entry) == 2]

        made = self._in(op).dsl.flat_map(mapper, key_serde=keys, value_serde=values, **named(op))
        return Handle(made, keys, values)

    def _flat_map_values(self, op: Op) -> Handle:
        n, values, elements = self._in(op), value_serde(op), function(op["fn"], "key", "value")

        def mapper(key: Any, value: Any) -> list[Any]:
            found = elements(key, value)
            return found if isinstance(found, list) else []

        made = n.dsl.flat_map_values(mapper, with_key=True, value_serde=values, **named(op))
        return Handle(made, n.key_serde, values)

    def _select_key(self, op: Op) -> Handle:
        n, keys = self._in(op), key_serde(op)
        made = n.dsl.select_key(function(op["fn"], "key", "value"), key_serde=keys, **named(op))
        return Handle(made, keys, n.value_serde)

    def _merge(self, op: Op) -> Handle:
        left, right = (self._handles[name] for name in op["in"])
        return Handle(left.dsl.merge(right.dsl, **named(op)), left.key_serde, left.value_serde)

    def _split(self, op: Op) -> None:
        n = self._in(op)
        splitter = n.dsl.split(**named(op))
        for branch in op["branches"]:
            splitter.branch(predicate(branch["when"]), self._branched(branch, n))
        default = op.get("default")
        if default is None:
            streams = splitter.no_default_branch()
        else:
            streams = splitter.default_branch(self._branched(default, n))
        for branch in [*op["branches"], *([] if default is None else [default])]:
            if "gives" in branch:
                made = self._handles[branch["ops"][-1]["id"]]
                self._handles[branch["gives"]] = Handle(streams[branch["key"]], made.key_serde, made.value_serde)

    def _branched(self, branch: Op, above: Handle) -> Branched[Any, Any]:
        """What becomes of a branch: its own operations, if it has some, are called while it is made."""

        def consume(stream: Any) -> None:
            self._handles[branch["id"]] = Handle(stream, above.key_serde, above.value_serde)
            self._make_all(branch.get("ops", []))

        def chain(stream: Any) -> Any:
            consume(stream)
            return self._handles[branch["ops"][-1]["id"]].dsl

        made = Branched.with_function(chain) if "gives" in branch else Branched.with_consumer(consume)
        return made.with_name(branch["name"]) if "name" in branch else made

    def _repartition(self, op: Op) -> Handle:
        n = self._in(op)
        made = n.dsl.repartition(
            key_serde=n.key_serde,
            value_serde=n.value_serde,
            partitions=op.get("partitions"),
            partitioner=partitioner(op),
            **named(op),
        )
        return Handle(made, n.key_serde, n.value_serde)

    def _to(self, op: Op) -> None:
        n = self._in(op)
        keys, values = key_serde(op, n.key_serde), value_serde(op, n.value_serde)
        if "topic" in op:
            topic = op["topic"]
            self.outputs[topic] = keys, values
        else:
            topic = topic_with_context(op) if op.get("context") else topic_of_record(op)
            self.dynamic_output = keys, values
        n.dsl.to(topic, key_serde=keys, value_serde=values, partitioner=partitioner(op), **named(op))

    def _process(self, op: Op) -> Handle:
        n, values = self._in(op), value_serde(op, self._in(op).value_serde)
        made = n.dsl.process(Supplier(op, n.key_serde), key_serde=n.key_serde, value_serde=values, **named(op))
        return Handle(made, n.key_serde, values)

    def _process_values(self, op: Op) -> Handle:
        n, stores = self._in(op), [op["store"]] if "store" in op and not op.get("global") else []
        made = n.dsl.process_values(values_supplier(op), *stores, value_serde=JSON, **named(op))
        return Handle(made, n.key_serde, JSON)

    def _to_table(self, op: Op) -> Handle:
        n = self._in(op)
        made = n.dsl.to_table(
            key_serde=n.key_serde, value_serde=n.value_serde, **named(op), **materialized(op, always=True)
        )
        return Handle(made, n.key_serde, n.value_serde)

    def _to_stream(self, op: Op) -> Handle:
        n = self._in(op)
        if "key" not in op:
            return Handle(n.dsl.to_stream(**named(op)), n.key_serde, n.value_serde)
        keys = key_serde(op)
        made = n.dsl.to_stream(function(op["key"], "key", "value"), key_serde=keys, **named(op))
        return Handle(made, keys, n.value_serde)

    def _group_by_key(self, op: Op) -> Handle:
        n = self._in(op)
        made = n.dsl.group_by_key(key_serde=n.key_serde, value_serde=n.value_serde, **named(op))
        return Handle(made, n.key_serde, n.value_serde)

    def _group_by(self, op: Op) -> Handle:
        n, keys = self._in(op), key_serde(op)
        if "fn" in op:
            selector, values = function(op["fn"], "key", "value"), n.value_serde
        else:
            selector, values = pair(op), value_serde(op)
        made = n.dsl.group_by(selector, key_serde=keys, value_serde=values, **named(op))
        return Handle(made, keys, values)

    def _windowed_by(self, op: Op) -> Handle:
        n, windows = self._in(op), windows_of(op["window"])
        made = n.dsl.windowed_by(windows)
        if "emit" in op:
            made = made.emit_strategy(EmitStrategy(op["emit"]))
        return Handle(made, n.key_serde, n.value_serde, windows)

    def _aggregate(self, op: Op) -> Handle:
        n, kind = self._in(op), op["op"]
        # A named reduce or aggregate needs a Materialized in Java, with or without a store.
        options = named(op) | materialized(op, always=kind != "count" and "name" in op)
        if kind == "count":
            made, values = n.dsl.count(**options), serdes.INT64
        elif kind == "reduce":
            values = n.value_serde
            functions = [function(op[what], "agg", "value") for what in ("fn", "subtractor") if what in op]
            made = n.dsl.reduce(*functions, value_serde=values, **options)
        else:
            values, start = value_serde(op), op["init"]
            functions = [function(op[what], "key", "value", "agg") for what in ("fn", "subtractor") if what in op]
            if "merger" in op:
                functions.append(function(op["merger"], "key", "agg", "other"))
            made = n.dsl.aggregate(lambda: start, *functions, value_serde=values, **options)
        keys = n.key_serde
        if isinstance(n.windows, SessionWindows):
            keys = serdes.session_windowed(keys)
        elif n.windows is not None:
            keys = time_windowed_ms(keys, n.windows.size_ms)
        return Handle(made, keys, values)

    def _cogroup(self, op: Op) -> Handle:
        inputs = [(self._handles[each["in"]], function(each["fn"], "key", "value", "agg")) for each in op["inputs"]]
        first, aggregator = inputs[0]
        cogrouped = first.dsl.cogroup(aggregator)
        for grouped, aggregator in inputs[1:]:
            cogrouped = cogrouped.cogroup(grouped.dsl, aggregator)
        return Handle(cogrouped, first.key_serde, JSON)

    def _suppress(self, op: Op) -> Handle:
        n = self._in(op)
        made = n.dsl.suppress(suppressed(op), **named(op))
        return Handle(made, n.key_serde, n.value_serde)

    def _join(self, op: Op) -> Handle:
        left, right = (self._handles[name] for name in op["in"])
        if hasattr(left.dsl, "to_stream"):
            return self._join_tables(op, left, right)
        values, joiner = value_serde(op), function(op["joiner"], "key", "left", "right")
        if "window" in op:
            return self._join_streams(op, left, right)
        selector = {"key_selector": function(op["key"], "key", "value")} if "key" in op else {}
        method = left.dsl.join if op["op"] == "join" else left.dsl.left_join
        grace = {"grace": timedelta(milliseconds=op["grace"])} if "grace" in op else {}
        made = method(right.dsl, joiner, with_key=True, value_serde=values, **selector, **grace, **named(op))
        return Handle(made, left.key_serde, values)

    def _join_streams(self, op: Op, left: Handle, right: Handle) -> Handle:
        values, joiner = value_serde(op), function(op["joiner"], "key", "left", "right")
        window = op["window"]
        widest = ms(max(abs(window["before"]), abs(window["after"])))
        made = getattr(left.dsl, op["op"])(
            right.dsl,
            joiner,
            JoinWindows.of(
                widest, before=ms(window["before"]), after=ms(window["after"]), grace=ms(window.get("grace", 0))
            ),
            with_key=True,
            key_serde=left.key_serde,
            this_value_serde=left.value_serde,
            other_value_serde=right.value_serde,
            value_serde=values,
            **{name: op[name] for name in ("name", "store") if name in op},
        )
        return Handle(made, left.key_serde, values)

    def _join_tables(self, op: Op, left: Handle, right: Handle) -> Handle:
        joiner, store = function(op["joiner"], "left", "right"), materialized(op)
        # A table operation without a store takes no serde in Java.
        values = value_serde(op) if store else JSON
        method, foreign_key = getattr(left.dsl, op["op"]), {}
        if "fk" in op:
            foreign_key = {"foreign_key": function(op["fk"], "key", "value")}
        made = method(right.dsl, joiner, value_serde=values, **foreign_key, **named(op), **store)
        return Handle(made, left.key_serde, values)


def topic_of_record(op: Op) -> Callable[[Any, Any], str]:
    """The topic of a record by key and value."""
    evaluate = function(op["topic_fn"], "key", "value")

    def topic_fn(key: Any, value: Any) -> str:
        return text(evaluate(key, value))

    return topic_fn


def topic_with_context(op: Op) -> Callable[[Any, Any, RecordContext], str]:
    """The same with the record context."""
    evaluate = function(op["topic_fn"], "key", "value", "topic", "partition", "offset", "ts", "headers")

    def topic_fn(key: Any, value: Any, context: RecordContext) -> str:
        topic, partition, offset, timestamp, headers = context
        return text(evaluate(key, value, topic, partition, offset, timestamp, [name for name, _ in headers]))

    return topic_fn


def windows_of(window: Op) -> FixedWindows | SessionWindows:
    grace = ms(window.get("grace", 0))
    if window["type"] == "session":
        return SessionWindows.of(ms(window["gap"]), grace=grace)
    if window["type"] == "sliding":
        return SlidingWindows.of(ms(window["diff"]), grace=grace)
    if window["type"] == "unlimited":
        return UnlimitedWindows(window.get("start", 0))
    return TimeWindows.of(ms(window["size"]), advance=ms(window.get("advance", window["size"])), grace=grace)


def ms(number: int) -> timedelta:
    return timedelta(milliseconds=number)


def named(op: Op) -> dict[str, Any]:
    return {"name": op["name"]} if "name" in op else {}


def suppressed(op: Op) -> Suppressed:
    strict = op["until"] == "window_closes" or op.get("when_full") == "shut_down"
    if "max_records" in op:
        buffer: BufferConfig = BufferConfig.max_records(op["max_records"])
    elif "max_bytes" in op:
        buffer = BufferConfig.max_bytes(op["max_bytes"])
    else:
        buffer = BufferConfig.unbounded()
    if not strict:
        return Suppressed.until_time_limit(timedelta(milliseconds=op["time_limit"]), buffer)
    full = buffer.shut_down_when_full()
    if op["until"] == "window_closes":
        return Suppressed.until_window_closes(full)
    return Suppressed.until_time_limit(timedelta(milliseconds=op["time_limit"]), full)


def partitioner(op: Op) -> Callable[[Any, Any, int], Any] | None:
    """What the expression gives: None, a number, or a list of numbers."""
    if "partitioner" not in op:
        return None
    evaluate = function(op["partitioner"], "key", "value")
    return lambda key, value, partitions: evaluate(key, value)


def pair(op: Op) -> Callable[[Any, Any], tuple[Any, Any]]:
    key, value = function(op["key"], "key", "value"), function(op["value"], "key", "value")
    return lambda k, v: (key(k, v), value(k, v))


def key_serde(op: Op, default: AnySerde = JSON) -> AnySerde:
    return serde(op["key_serde"]) if "key_serde" in op else default


def value_serde(op: Op, default: AnySerde = JSON) -> AnySerde:
    return serde(op["value_serde"]) if "value_serde" in op else default


def serde(name: str) -> AnySerde:
    return {"json": JSON, "string": serdes.STRING, "long": serdes.INT64}[name]


def consumed(op: Op) -> dict[str, Any]:
    return named(op) | ({"timestamp_extractor": extractor(op["ts"])} if "ts" in op else {})


def log_and_skip(key: Any, value: Any, timestamp: int, partition_time: int) -> int:
    return timestamp


def extractor(spec: Any) -> Callable[[Any, Any, int, int], int] | None:
    if spec == "record":
        return None
    if spec == "log_and_skip":
        return log_and_skip
    return by_field(spec["field"], spec.get("invalid", "skip"))


@cache
def by_field(field: str, invalid: str) -> Callable[[Any, Any, int, int], int]:
    """The same function for the same operation: two streams of a topic need one extractor."""

    def extract(_: Any, value: Any, timestamp: int, partition_time: int) -> int:
        member = value.get(field) if isinstance(value, dict) else None
        found = member if type(member) is int else timestamp
        return partition_time if found < 0 and invalid == "partition_time" else found

    return extract


def materialized(op: Op, *, always: bool = False) -> dict[str, Any]:
    if not always and "store" not in op and not op.get("materialize"):
        return {}
    options: dict[str, Any] = {"store": op.get("store", True)}
    if "retention" in op:
        options["retention"] = timedelta(milliseconds=op["retention"])
    if "versioned" in op:
        options["versioned"] = timedelta(milliseconds=op["versioned"])
    if "store_type" in op:
        options["in_memory"] = op["store_type"] == "in_memory"
    return options | {name: op[name] for name in ("caching", "logging") if name in op}
