"""Runs a scenario through the operators and stores of a worker, in the order in which the Java driver does it.

All sub-topologies form one task with one partition of each topic. A piped record is processed to the end before the
next one: a record is taken, goes through its operators, the caches are flushed and the engines brought up to date, and
what was written to a topic that somebody reads is put in that topic's queue, until all queues are empty.

Left out, since no operator needs it yet: the wall clock, and with it the steps that move it.
Source: TopologyTestDriver. Next: `compare`, which says whether a result is that of Kafka Streams.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from streamlib import Topology, UnstableNameWarning
from streamlib.config import StreamsConfig
from streamlib.errors import StreamlibError
from streamlib.metrics import Metrics
from streamlib.record import FetchedBatch, Headers, RecordBatch, TopicPartition
from streamlib.runtime.lowering import SourceEntry, lower
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.record_collector import serialized
from streamlib.runtime.record_queue import RecordQueue
from streamlib.runtime.task import TaskContext
from streamlib.serdes import AnySerde
from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import AnyTimestampedStore, open_store
from streamlib.state.window import split_window_store_key
from streamlib.testing.clock import ManualClock
from streamlib.topology.nodes import Sink
from tests.conformance.build import Build
from tests.conformance.expr import plain
from tests.conformance.queue_order import QueueOrder

APPLICATION_ID = "app"
READ_CACHE_BYTES = 64 * 1024

Scenario = Mapping[str, Any]


class Row(NamedTuple):
    """A record as a topic has it."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()

    def traced(self) -> list[Any]:
        """Key and value in hexadecimal digits, the timestamp, and the headers if there are any."""
        headers = [[name, _hex(data)] for name, data in self.headers]
        return [_hex(self.key), _hex(self.value), self.timestamp, *([headers] if headers else [])]


class Changelog:
    """Keeps what a store logs; implements `state.base.ChangelogWriter`."""

    def __init__(self, trace: list[Any]) -> None:
        self._trace = trace

    def append(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Log updates in order."""
        self._trace += [Row(*row).traced() for row in zip(keys, values, timestamps, strict=True)]


class Driver:
    """One scenario, from its topology to its result; call `result` once.

    Args:
        scenario: The scenario.
        engine: Where persistent stores live. It must be empty, and is the caller's to close.
        batch_rows: Take up to so many consecutive records of a topic at once, unless their source wants single ones.
            The Java driver takes one.
        commit_rows: Commit after so many records, and when nothing waits. The Java driver commits after each.

    Attributes:
        trace: The records of each repartition and changelog topic.
        record_order: Some source wants its records one by one.
        largest_run: How many records entered the operators at once, at most.
    """

    def __init__(self, scenario: Scenario, engine: Engine, *, batch_rows: int = 1, commit_rows: int = 1) -> None:
        self.trace: defaultdict[str, list[Any]] = defaultdict(list)
        self.largest_run = 0
        self._steps = scenario["steps"]
        self._batch_rows, self._commit_rows = batch_rows, commit_rows
        self._step = -1
        self._uncommitted = 0
        self._outputs: list[dict[str, Any]] = []
        self._written: list[tuple[str, Sink, Row]] = []
        self._ends: defaultdict[str, int] = defaultdict(int)
        self._waiting = QueueOrder()
        config = _config(scenario)
        self._inputs, self._topology = _built(scenario)
        self._metrics = Metrics()
        self._context = TaskContext(TaskId(0, 0), self, self._metrics, config, ManualClock())
        self._engines = {True: engine, False: MemoryEngine()}
        self._stores = {name: self._opened(spec) for name, spec in self._topology.stores.items()}
        self._global_tables = _global_tables(self._topology)
        cache_bytes = config.statestore_cache_max_bytes
        self._pipelines = [
            lower(self._topology, subtopology, self._stores, self._context, cache_bytes=cache_bytes)
            for subtopology in self._topology.subtopologies
            if not subtopology.is_global
        ]
        for pipeline in self._pipelines:
            pipeline.init()
        self._entries: dict[str, SourceEntry] = {
            topic: entry
            for pipeline in self._pipelines
            for entry in pipeline.sources.values()
            for topic in entry.node.topics
        }
        self.record_order = any(entry.record_order for entry in self._entries.values())
        self._queues = {
            topic: RecordQueue(TopicPartition(topic, 0), entry.node, True, self._context)
            for topic, entry in self._entries.items()
        }

    def result(self) -> dict[str, Any]:
        """What came out, in the form of an expected result: outputs, error or stores, dropped."""
        result: dict[str, Any] = {"outputs": self._outputs}
        try:
            for step, topic, rows in self._groups():
                self._step = step
                self._deliver(topic, rows)
                while self._waiting:
                    self._process(self._waiting.take())
        except StreamlibError:
            result["error"] = {"step": self._step}
        else:
            self._commit()
            result["stores"] = {name: self._listed(name) for name in self._stores}
        expired = sum(store.expired for store in self._stores.values())
        return result | {"dropped": self._metrics.total("dropped_records_total") + expired}

    def send(self, sink: Sink, batch: RecordBatch) -> None:
        """Keep what a sink writes until the run is over; implements `operators.base.Collector`."""
        keys = serialized(sink.key_serde, batch.keys, batch, sink, "key")
        values = serialized(sink.value_serde, batch.values, batch, sink, "value")
        rows = map(Row, keys, values, batch.timestamps, batch.headers or [()] * len(batch))
        if sink.topic_fn is not None:
            topics = list(map(sink.topic_fn, batch.keys, batch.values))
        else:
            topics = [sink.topic or ""] * len(batch)
        self._written += [(topic, sink, row) for topic, row in zip(topics, rows, strict=True)]

    def _groups(self) -> Iterator[tuple[int, str, list[Row]]]:
        """The number of the first step, the topic and the records of the steps that are delivered together."""
        at_once = max(self._batch_rows, self._commit_rows)
        for topic, group in groupby(enumerate(self._steps), lambda numbered: numbered[1]["topic"]):
            steps = list(group)
            for first in range(0, len(steps), at_once):
                part = steps[first : first + at_once]
                yield part[0][0], topic, [self._row(step) for _, step in part]

    def _row(self, step: Mapping[str, Any]) -> Row:
        keys, values = self._inputs[step["topic"]]
        key, value = keys.serialize_many([step["key"]])[0], values.serialize_many([step.get("value")])[0]
        if "value_hex" in step:
            value = bytes.fromhex(step["value_hex"])
        headers = [(name, None if text is None else text.encode()) for name, text in step.get("headers", [])]
        return Row(key, value, step["ts"], headers)

    def _deliver(self, topic: str, rows: list[Row]) -> None:
        """Put records where those who read the topic find them."""
        if topic in self._global_tables:
            self._update_global_table(self._global_tables[topic], rows)
        if topic in self._queues:
            queue = self._queues[topic]
            is_first = queue.buffered == 0
            for first in range(0, len(rows), self._batch_rows):
                queue.add(self._fetched(topic, rows[first : first + self._batch_rows]))
            if is_first:
                self._line_up(topic)

    def _update_global_table(self, store: str, rows: list[Row]) -> None:
        """Apply the records of a global table at once; their topic is its changelog."""
        keyed = [row for row in rows if row.key is not None]
        self._metrics.dropped(store, "null-key", len(rows) - len(keyed))
        keys = [row.key for row in keyed if row.key is not None]
        self._stores[store].restore(keys, [row.value for row in keyed], [row.timestamp for row in keyed])

    def _fetched(self, topic: str, rows: list[Row]) -> FetchedBatch:
        first = self._ends[topic]
        self._ends[topic] = end = first + len(rows)
        keys, values, timestamps, headers = map(list, zip(*rows, strict=True))
        return FetchedBatch(keys, values, timestamps, list(range(first, end)), headers if any(headers) else None, end)

    def _line_up(self, topic: str) -> None:
        """Let a topic wait for its turn if it has a record, which is decoded only now."""
        queue = self._queues[topic]
        time = queue.head_time()
        self._metrics.dropped(queue.source.name, "negative-timestamp", queue.take_negative_count())
        if time is not None:
            self._waiting.add(time, topic)

    def _process(self, topic: str) -> None:
        """Take the next records of a topic through the operators, commit, and deliver what they wrote."""
        queue, entry = self._queues[topic], self._entries[topic]
        run = queue.take(self._waiting.first_time, 1 if entry.record_order else self._batch_rows)
        self._line_up(topic)
        self.largest_run = max(self.largest_run, len(run))
        self._uncommitted += len(run)
        self._context.tp = queue.tp
        self._context.stream_time = max(self._context.stream_time, *run.timestamps)
        entry.process(run)
        if self._uncommitted >= self._commit_rows or not self._waiting:
            self._commit()
        self._distribute()

    def _commit(self) -> None:
        """Flush the caches, and bring the engines up to date with the stores."""
        self._uncommitted = 0
        for pipeline in self._pipelines:
            pipeline.flush()
        for persistent, engine in self._engines.items():
            stores = [
                self._stores[name] for name, spec in self._topology.stores.items() if spec.persistent is persistent
            ]
            engine.write({table: rows for store in stores for table, rows in store.pending().items()}, {})
            for store in stores:
                store.applied()

    def _distribute(self) -> None:
        """Show what was written and deliver it, in the order of writing."""
        written, self._written = self._written, []
        for topic, group in groupby(written, itemgetter(0)):
            rows = []
            for _, sink, row in group:
                self._show(topic, sink, row)
                rows.append(row)
            self._deliver(topic, rows)

    def _show(self, topic: str, sink: Sink, row: Row) -> None:
        if topic in self._topology.repartition_topics:
            self.trace[f"{APPLICATION_ID}-{topic}"].append(row.traced())
            return
        key, value = sink.key_serde.deserialize_many([row.key])[0], sink.value_serde.deserialize_many([row.value])[0]
        output = {"step": self._step, "topic": topic, "key": key, "value": value, "ts": row.timestamp}
        if row.headers:
            output["headers"] = [[name, None if data is None else data.decode()] for name, data in row.headers]
        self._outputs.append(output)

    def _opened(self, spec: StoreSpec) -> AnyTimestampedStore:
        topic = self._topology.changelog_topic(spec.name, APPLICATION_ID)
        changelog = None if topic is None or spec.source_topic is not None else Changelog(self.trace[topic])
        return open_store(spec, self._engines[spec.persistent], changelog, cache_bytes=READ_CACHE_BYTES)

    def _listed(self, name: str) -> list[list[Any]]:
        """The rows as a task finds them that starts again now: those that the engine has."""
        spec, store = self._topology.stores[name], self._stores[name]
        store.discard()
        return [[_shown_key(spec, key), value, timestamp] for key, value, timestamp in store.scan()]


def _built(scenario: Scenario) -> tuple[Mapping[str, tuple[AnySerde, AnySerde]], Topology]:
    """The serdes of the source topics, and the topology."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        build = Build(dict(scenario))
        return build.inputs, build.topology()


def _config(scenario: Scenario) -> StreamsConfig:
    settings = scenario.get("config", {})
    return StreamsConfig(
        APPLICATION_ID,
        emit_interval_ms=0,
        statestore_cache_max_bytes=int(settings.get("statestore.cache.max.bytes", 0)),
        deserialization_error="skip" if settings.get("deserialization_handler") == "continue" else "fail",
        processing_error="skip" if settings.get("processing_handler") == "continue" else "fail",
    )


def _global_tables(topology: Topology) -> dict[str, str]:
    """Topic to store of each global table."""
    stores = [name for subtopology in topology.subtopologies if subtopology.is_global for name in subtopology.stores]
    return {topology.stores[name].source_topic or "": name for name in stores}


def _shown_key(spec: StoreSpec, store_key: bytes) -> Any:
    if spec.kind != "window":
        return plain(spec.key_serde.deserialize(store_key))
    key, start = split_window_store_key(store_key)
    return {"key": plain(spec.key_serde.deserialize(key)), "start": start}


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()
