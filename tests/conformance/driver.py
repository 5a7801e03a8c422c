"""Runs a scenario through the operators and stores of a worker, in the order in which the Java driver does it.

All sub-topologies form one task with one partition of each topic. A piped record is processed to the end before the
next one: a record is taken, goes through its operators, caches are flushed, stores are committed to their engine, and
what was written to a topic that somebody reads is put in that topic's queue. Kafka's ``TopologyTestDriver`` does this,
and ``PartitionGroup`` decides which queue is next.

Next: `compare`, which says whether a result is that of Kafka Streams.
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
from streamlib.state.window import WindowTimestampedStore, split_window_store_key
from streamlib.topology.nodes import Sink
from tests.conformance.build import Build
from tests.conformance.expr import plain

APPLICATION_ID = "app"
READ_CACHE_BYTES = 64 * 1024
MANY = 1_000_000

TraceRow = list[Any]
"""Key and value in hexadecimal digits, timestamp, and the headers if there are any."""


class Row(NamedTuple):
    """A record as a topic has it."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers


class Driver:
    """One scenario, from its topology to its result; call `result` once.

    Args:
        scenario: The scenario.
        engine: Where persistent stores live. It must be empty, and is the caller's to close.
        batches: Take all consecutive records of a topic as one batch, unless their source wants them one by one.

    Attributes:
        trace: The records of each repartition and changelog topic.
        largest_run: How many records entered the operators at once, at most.
    """

    def __init__(self, scenario: Mapping[str, Any], engine: Engine, *, batches: bool = False) -> None:
        self.trace: defaultdict[str, list[TraceRow]] = defaultdict(list)
        self.largest_run = 0
        self._scenario = scenario
        self._batches = batches
        self._step = -1
        self._outputs: list[dict[str, Any]] = []
        self._written: list[tuple[str, Sink, Row]] = []
        self._offsets: defaultdict[str, int] = defaultdict(int)
        self._metrics = Metrics()
        config = _config(scenario)
        self._context = TaskContext(TaskId(0, 0), self, self._metrics, config)
        self._inputs, self._topology = _built(scenario)
        self._engines = {True: engine, False: MemoryEngine()}
        self._stores = {name: self._opened(spec) for name, spec in self._topology.stores.items()}
        cache_bytes = config.statestore_cache_max_bytes
        self._pipelines = [
            lower(self._topology, subtopology, self._stores, self._context, cache_bytes=cache_bytes)
            for subtopology in self._topology.subtopologies
            if not subtopology.is_global
        ]
        self._entries: dict[str, SourceEntry] = {
            topic: entry
            for pipeline in self._pipelines
            for entry in pipeline.sources.values()
            for topic in entry.node.topics
        }
        self._queues = {
            topic: RecordQueue(TopicPartition(topic, 0), entry.node, True, self._context)
            for topic, entry in self._entries.items()
        }
        self._waiting = QueueOrder()
        self._global_tables = {
            spec.source_topic: name
            for subtopology in self._topology.subtopologies
            if subtopology.is_global
            for name in subtopology.stores
            if (spec := self._topology.stores[name]).source_topic is not None
        }

    def result(self) -> dict[str, Any]:
        """What came out, in the form of an expected result: outputs, error or stores, dropped.

        Stores are listed as a task would find them that starts again now.
        """
        result: dict[str, Any] = {"outputs": self._outputs}
        try:
            self._run()
        except StreamlibError:
            result["error"] = {"step": self._step}
        else:
            self._apply()
            result["stores"] = {name: self._listed(name) for name in self._stores}
        expired = sum(store.expired for store in self._stores.values() if isinstance(store, WindowTimestampedStore))
        return result | {"dropped": self._metrics.total("dropped_records_total") + expired}

    def send(self, sink: Sink, batch: RecordBatch) -> None:
        """Keep what a sink writes until its run is over; implements `operators.base.Collector`."""
        keys = serialized(sink.key_serde, batch.keys, batch, sink, "key")
        values = serialized(sink.value_serde, batch.values, batch, sink, "value")
        headers = batch.headers or [()] * len(batch)
        if sink.topic_fn is not None:
            topics = list(map(sink.topic_fn, batch.keys, batch.values))
        else:
            assert sink.topic is not None
            topics = [sink.topic] * len(batch)
        rows = map(Row, keys, values, batch.timestamps, headers)
        self._written += [(topic, sink, row) for topic, row in zip(topics, rows, strict=True)]

    def _run(self) -> None:
        for self._step, topic, steps in self._groups():
            self._deliver(topic, [self._row(step) for step in steps])
            while self._waiting:
                self._process(self._waiting.take())

    def _groups(self) -> Iterator[tuple[int, str, list[Any]]]:
        """The number of the first step, the topic, and the steps that are delivered together."""
        steps = enumerate(self._scenario["steps"])
        for _, group in groupby(steps, lambda entry: entry[1]["topic"] if self._batches else entry[0]):
            numbered = list(group)
            number, first = numbered[0]
            yield number, first["topic"], [step for _, step in numbered]

    def _row(self, step: Mapping[str, Any]) -> Row:
        keys, values = self._inputs[step["topic"]]
        key, value = step["key"], step.get("value")
        headers = [(name, None if text is None else text.encode()) for name, text in step.get("headers", [])]
        return Row(
            None if key is None else keys.serialize(key),
            bytes.fromhex(step["value_hex"]) if "value_hex" in step else None if value is None else values.serialize(value),
            step["ts"],
            headers,
        )

    def _deliver(self, topic: str, rows: list[Row]) -> None:
        """Put records where those who read the topic find them."""
        if topic in self._global_tables:
            self._update_global_table(self._global_tables[topic], rows)
        if topic in self._queues:
            queue = self._queues[topic]
            is_first = queue.buffered == 0
            queue.add(self._fetched(topic, rows))
            if is_first:
                self._line_up(topic)

    def _fetched(self, topic: str, rows: list[Row]) -> FetchedBatch:
        first = self._offsets[topic]
        self._offsets[topic] = end = first + len(rows)
        keys, values, timestamps, headers = map(list, zip(*rows, strict=True))
        return FetchedBatch(keys, values, timestamps, list(range(first, end)), headers if any(headers) else None, end)

    def _update_global_table(self, store: str, rows: list[Row]) -> None:
        """Apply a global table's records at once; its topic is its changelog."""
        keyed = [row for row in rows if row.key is not None]
        self._metrics.dropped(store, "null-key", len(rows) - len(keyed))
        keys: list[Any] = [row.key for row in keyed]
        self._stores[store].restore(keys, [row.value for row in keyed], [row.timestamp for row in keyed])

    def _line_up(self, topic: str) -> None:
        """Let a topic wait for its turn, if it has a record; only now its first record is decoded."""
        queue = self._queues[topic]
        time = queue.head_time()
        self._metrics.dropped(queue.source.name, "negative-timestamp", queue.take_negative_count())
        if time is not None:
            self._waiting.add(time, topic)

    def _process(self, topic: str) -> None:
        """Take the next records of a topic through the operators, commit, and deliver what they wrote."""
        queue, entry = self._queues[topic], self._entries[topic]
        rows_max = MANY if self._batches and not entry.record_order else 1
        run = queue.take(self._waiting.first_time, rows_max)
        self._line_up(topic)
        self.largest_run = max(self.largest_run, len(run))
        self._context.tp = queue.tp
        entry.process(run)
        self._commit()
        self._distribute()

    def _commit(self) -> None:
        for pipeline in self._pipelines:
            pipeline.flush()
        if not self._batches:
            self._apply()

    def _apply(self) -> None:
        """Bring the engines up to date with the stores."""
        for persistent, engine in self._engines.items():
            names = [name for name, spec in self._topology.stores.items() if spec.persistent is persistent]
            pending = [self._stores[name].pending() for name in names]
            engine.write({table: rows for writes in pending for table, rows in writes.items()}, {})
            for name in names:
                self._stores[name].applied()

    def _distribute(self) -> None:
        """Show the records that were written, and deliver them: in the order of writing, or those of a topic at once."""
        written, self._written = self._written, []
        for topic, sink, row in written:
            self._show(topic, sink, row)
        if self._batches:
            written.sort(key=itemgetter(0))
        for _, group in groupby(written, itemgetter(0) if self._batches else id):
            rows = list(group)
            self._deliver(rows[0][0], [row for _, _, row in rows])

    def _show(self, topic: str, sink: Sink, row: Row) -> None:
        if topic in self._topology.repartition_topics:
            self.trace[f"{APPLICATION_ID}-{topic}"].append(_trace_row(*row))
            return
        output = {
            "step": self._step,
            "topic": topic,
            "key": None if row.key is None else sink.key_serde.deserialize(row.key),
            "value": None if row.value is None else sink.value_serde.deserialize(row.value),
            "ts": row.timestamp,
        }
        if row.headers:
            output["headers"] = [[name, None if data is None else data.decode()] for name, data in row.headers]
        self._outputs.append(output)

    def _opened(self, spec: StoreSpec) -> AnyTimestampedStore:
        topic = self._topology.changelog_topic(spec.name, APPLICATION_ID)
        changelog = None if topic is None or spec.source_topic is not None else Changelog(self.trace[topic])
        return open_store(spec, self._engines[spec.persistent], changelog, cache_bytes=READ_CACHE_BYTES)

    def _listed(self, name: str) -> list[list[Any]]:
        """The rows as a task finds them that starts again now."""
        spec, store = self._topology.stores[name], self._stores[name]
        store.discard()
        return [[_shown_key(spec, key), value, timestamp] for key, value, timestamp in store.scan()]


class Changelog:
    """A changelog that keeps what is logged in ``rows``; implements `state.base.ChangelogWriter`."""

    def __init__(self, rows: list[TraceRow]) -> None:
        self._rows = rows

    def append(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Log updates in order."""
        self._rows += [_trace_row(*row) for row in zip(keys, values, timestamps, strict=True)]


class QueueOrder:
    """The topics that have records, by the time of their first one.

    Among equal times the order is that of Java's ``PriorityQueue``, a binary heap that moves entries only past strictly
    later ones; `heapq` moves them otherwise.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first_time(self) -> int | None:
        """The time of the next topic, or None when there is none."""
        return self._heap[0][0] if self._heap else None

    def add(self, time: int, topic: str) -> None:
        """Add a topic that is not there."""
        heap = self._heap
        heap.append((time, topic))
        place = len(heap) - 1
        while place > 0 and time < heap[parent := (place - 1) // 2][0]:
            heap[place], heap[parent] = heap[parent], heap[place]
            place = parent

    def take(self) -> str:
        """Remove the next topic."""
        heap = self._heap
        taken, last = heap[0], heap.pop()
        if heap:
            heap[0] = last
            self._sink(0)
        return taken[1]

    def _sink(self, place: int) -> None:
        heap = self._heap
        while children := range(2 * place + 1, min(2 * place + 3, len(heap))):
            child = min(children, key=lambda index: heap[index][0])
            if heap[place][0] <= heap[child][0]:
                return
            heap[place], heap[child] = heap[child], heap[place]
            place = child


def _built(scenario: Mapping[str, Any]) -> tuple[dict[str, tuple[AnySerde, AnySerde]], Topology]:
    """The serdes of the source topics, and the topology."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        build = Build(dict(scenario))
        return build.inputs, build.topology()


def _config(scenario: Mapping[str, Any]) -> StreamsConfig:
    settings = scenario.get("config", {})
    return StreamsConfig(
        APPLICATION_ID,
        statestore_cache_max_bytes=int(settings.get("statestore.cache.max.bytes", 0)),
        deserialization_error="skip" if settings.get("deserialization_handler") == "continue" else "fail",
        processing_error="skip" if settings.get("processing_handler") == "continue" else "fail",
    )


def _shown_key(spec: StoreSpec, store_key: bytes) -> Any:
    if spec.kind != "window":
        return plain(spec.key_serde.deserialize(store_key))
    key, start = split_window_store_key(store_key)
    return {"key": plain(spec.key_serde.deserialize(key)), "start": start}


def _trace_row(key: bytes | None, value: bytes | None, timestamp: int, headers: Headers = ()) -> TraceRow:
    columns = [None if column is None else column.hex() for column in (key, value)]
    shown = [[name, None if data is None else data.hex()] for name, data in headers]
    return [*columns, timestamp, shown] if shown else [*columns, timestamp]
