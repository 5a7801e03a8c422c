"""The processors that scenarios name, written with the public API as a user would."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from streamlib import (
    FixedKeyProcessor,
    FixedKeyRecord,
    Processor,
    PunctuationType,
    Record,
    Stores,
    ValueAndTimestamp,
    ValueTransformerWithKey,
    serdes,
)
from streamlib.serdes import AnySerde
from tests.conformance.expr import JSON, function, text, wrapped

Op = dict[str, Any]

CLOCKS = {"stream": PunctuationType.STREAM_TIME, "wall": PunctuationType.WALL_CLOCK_TIME}


class OfScenario(Processor[Any, Any, Any, Any]):
    """A processor with its settings, and its own store if it has one."""

    def __init__(self, op: Op) -> None:
        self.op = op

    def init(self, context: Any) -> None:
        super().init(context)
        if "store" in self.op:
            self.store = context.get_state_store(self.op["store"])


class Dedup(OfScenario):
    def process(self, record: Record[Any, Any]) -> None:
        if record.key is not None:
            last = self.store.get(record.key)
            if last is not None and abs(record.timestamp - last) < self.op["within_ms"]:
                return
            self.store.put(record.key, record.timestamp)
        self.context.forward(record)


class BufferFlush(OfScenario):
    def init(self, context: Any) -> None:
        super().init(context)
        interval = timedelta(milliseconds=self.op["interval_ms"])
        context.schedule(interval, CLOCKS[self.op["clock"]], self.flush)

    def process(self, record: Record[Any, Any]) -> None:
        if record.key is not None:
            self.store.put(record.key, record.value)

    def flush(self, now: int) -> None:
        for key, value in self.store.all():
            self.context.forward(Record(key, value, now))
            self.store.delete(key)


class RunningTotal(OfScenario):
    def init(self, context: Any) -> None:
        super().init(context)
        self.ttl_ms = self.op["ttl_ms"]
        context.schedule(timedelta(milliseconds=self.ttl_ms), PunctuationType.STREAM_TIME, self.expire)

    def process(self, record: Record[Any, Any]) -> None:
        if record.key is None:
            return
        old = self.store.get(record.key)
        live = old is not None and record.timestamp - old["ts"] <= self.ttl_ms
        total = wrapped((old["total"] if live else 0) + (record.value if type(record.value) is int else 0))
        ts = max(old["ts"], record.timestamp) if live else record.timestamp
        self.store.put(record.key, {"total": total, "ts": ts})
        self.context.forward(record.with_value(total))

    def expire(self, now: int) -> None:
        for key, state in self.store.all():
            if state["ts"] + self.ttl_ms <= now:
                self.store.delete(key)
                self.context.forward(Record(key, None, now))


class Header(OfScenario):
    def process(self, record: Record[Any, Any]) -> None:
        name, found = self.op["header"], function(self.op["fn"], "key", "value")(record.key, record.value)
        kept = [header for header in record.headers if not (self.op.get("replace") and header[0] == name)]
        self.context.forward(record.with_headers([*kept, (name, None if found is None else text(found).encode())]))


class Timestamp(OfScenario):
    def process(self, record: Record[Any, Any]) -> None:
        found = function(self.op["fn"], "key", "value", "ts")(record.key, record.value, record.timestamp)
        changes = type(found) is int and found >= 0
        self.context.forward(record.with_timestamp(found) if changes else record)


class Meta(FixedKeyProcessor[Any, Any, Any]):
    def process(self, record: FixedKeyRecord[Any, Any]) -> None:
        # Where there is nothing to tell, Java gives a context with these values.
        topic, partition, offset = self.context.record_metadata or (None, -1, -1)
        value = {
            "value": record.value,
            "ts": record.timestamp,
            "stream_time": self.context.current_stream_time_ms,
            "wall_time": self.context.current_system_time_ms,
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "headers": [name for name, _ in record.headers],
        }
        self.context.forward(record.with_value(value))


class Lookup(FixedKeyProcessor[Any, Any, Any]):
    def __init__(self, op: Op) -> None:
        self.op = op

    def init(self, context: Any) -> None:
        super().init(context)
        self.store = context.get_state_store(self.op["store"])

    def process(self, record: FixedKeyRecord[Any, Any]) -> None:
        found = None if record.key is None else self.store.get(record.key)
        self.context.forward(record.with_value([record.value, None if found is None else list(found)]))


class FillGlobal(Processor[Any, Any, Any, Any]):
    """What fills a global store."""

    def __init__(self, op: Op) -> None:
        self.op = op

    def init(self, context: Any) -> None:
        super().init(context)
        self.store = context.get_state_store(self.op["store"])

    def process(self, record: Record[Any, Any]) -> None:
        if record.key is not None:
            value = function(self.op["fn"], "key", "value")(record.key, record.value)
            self.store.put(record.key, None if value is None else ValueAndTimestamp(value, record.timestamp))


class Transformer(ValueTransformerWithKey[Any, Any, Any]):
    """What makes the values of a table."""

    def __init__(self, op: Op) -> None:
        self.op = op

    def init(self, context: Any) -> None:
        super().init(context)
        self.store = context.get_state_store(self.op["uses"]) if "uses" in self.op else None

    def transform(self, key: Any, value: Any) -> Any:
        found = None if self.store is None else self.store.get(key)
        return function(self.op["fn"], "key", "value", "other")(key, value, None if found is None else found.value)


KINDS: dict[str, Callable[[Op], OfScenario]] = {
    "dedup": Dedup,
    "buffer_flush": BufferFlush,
    "running_total": RunningTotal,
    "header": Header,
    "timestamp": Timestamp,
}


class Supplier:
    """Makes the processor of an operation, and brings its store along."""

    def __init__(self, op: Op, key_serde: AnySerde) -> None:
        self.op = op
        values = serdes.INT64 if op["processor"] == "dedup" else JSON
        self.brought = [Stores.key_value_store(op["store"], key_serde, values)] if "store" in op else []

    def __call__(self) -> OfScenario:
        return KINDS[self.op["processor"]](self.op)

    def stores(self) -> list[Any]:
        return self.brought


def values_supplier(op: Op) -> Callable[[], FixedKeyProcessor[Any, Any, Any]]:
    return Meta if op["processor"] == "meta" else lambda: Lookup(op)
