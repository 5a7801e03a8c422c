"""`TopologyTestDriver`: a topology in one process, without a broker, record by record, on a clock that stands still.

It runs the tasks, operators and stores of a worker; only the broker is left out. All sub-topologies form one task with
one partition of each topic. A record that is piped in is processed to the end before the call returns: it goes through
its operators, the caches are flushed, the stores applied, and what was written to a topic that somebody reads is put in
that topic's queue, until all queues are empty. Asynchronous functions are awaited where they are called; retries, of
records too, follow at once. Changelogs are kept, so a test can let the worker crash.

Source: TopologyTestDriver (KIP-247, KIP-470). Next: `topics`, what a test writes to and reads from.
"""

import tempfile
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from streamlib.config import StreamsConfig
from streamlib.errors import RetryLaterError
from streamlib.metrics import Metrics
from streamlib.record import Headers, TopicPartition
from streamlib.runtime.global_updates import GlobalUpdates
from streamlib.runtime.offset_metadata import Position, decode_position
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.record_collector import RecordCollector
from streamlib.runtime.record_errors import RecordErrors, dead_letter_topics
from streamlib.runtime.task import Task, read_also
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_state import TaskState
from streamlib.serdes.base import Serde
from streamlib.state.base import StateStore
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.directory import StateDirectory
from streamlib.state.key_value_facade import KeyValueStore, TimestampedKeyValueStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksMemory
from streamlib.state.session_facade import SessionStore
from streamlib.state.stores import open_store
from streamlib.state.versioned_facade import VersionedKeyValueStore
from streamlib.state.window_facade import TimestampedWindowStore, WindowStore
from streamlib.testing.clock import ManualClock
from streamlib.testing.explain import Explanation, Recorder, Write
from streamlib.testing.logs import Logs, OnePartitionEach
from streamlib.testing.private_loop import ALL_ROWS, PrivateLoop
from streamlib.testing.state_stores import StateStores
from streamlib.testing.topics import Row, TestInputTopic, TestOutputTopic
from streamlib.topology.nodes import Sink, Source
from streamlib.topology.patterns import patterns_of, resolved
from streamlib.topology.subtopologies import Subtopology
from streamlib.topology.topology import Topology
from streamlib.topology.windows import to_ms

K = TypeVar("K")
V = TypeVar("V")

ROCKSDB_BYTES = 16 * 1024 * 1024
TASK = TaskId(0, 0)


class TopologyTestDriver:
    """Runs a topology for a test.

    Args:
        topology: What to run.
        config: Settings of a worker, by name or as a whole; those of brokers and groups have no effect. Caching and
            throttles are as in Java's driver: caches are flushed after each record, ``emit_interval_ms`` is 0.
        initial_wall_clock_ms: What the wall clock shows at first.
        batch_rows: So many records at most are processed at once, if they were piped together. One, as in Java's
            driver, shows what follows from each; a worker takes thousands.
        commit_rows: Commit after so many records, and whenever nothing waits. One, as in Java's driver, hides what
            caching does between commits.

    Attributes:
        clock: The wall clock; `advance_wall_clock_time` moves it.
        metrics: The counters of the worker, e.g. ``metrics.total("dropped_records_total")``.
        logs: All records of all topics, internal ones included, by the names they have on a broker.
        largest_run: How many records were processed at once, at most.

    Close it, or use it as a context manager: stores on disk are deleted then.
    """

    __test__ = False

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig | Mapping[str, Any] | None = None,
        *,
        initial_wall_clock_ms: int = 0,
        batch_rows: int = 1,
        commit_rows: int = 1,
    ) -> None:
        self._recorder = Recorder()
        self.topology = self._recorder.observed(_in_one_task(topology))
        self.clock = ManualClock(initial_wall_clock_ms)
        self.metrics = Metrics()
        self.logs = Logs()
        self.config = _config(topology, config)
        dead_letter_topics(topology.nodes, self.config)  # refuses a policy without its topic, as a worker does
        self.largest_run = 0
        self._batch_rows, self._commit_rows = batch_rows, commit_rows
        self._uncommitted = 0
        self._produced: set[str] = set()
        self._patterns = patterns_of(topology)
        self._folder = tempfile.TemporaryDirectory(prefix="streamlib-test-")
        self._outputs: defaultdict[str, deque[Row]] = defaultdict(deque)
        self._committed: dict[TopicPartition, Position] = {}
        self._global_stores: dict[str, StateStore] = {}
        self._globals = GlobalUpdates(self.topology, self.config, self.metrics, self._global_stores, self.clock)
        self._directory = StateDirectory.open(
            Path(self._folder.name), self.config.application_id, RocksMemory(ROCKSDB_BYTES)
        )
        physical = self._physical
        collector = RecordCollector(self.logs, OnePartitionEach(), physical, self.metrics)
        self._factory = TaskFactory(
            self.topology,
            self.config,
            OnePartitionEach(),
            self._directory,
            collector,
            self.logs,
            self.metrics,
            self._global_stores,
            self.clock,
            RecordErrors(self.config, self.topology.nodes, collector, self.metrics, self.clock),
            CacheMemory(self.config.statestore_cache_max_bytes),
            ordered=batch_rows == 1,
        )
        self._inputs = {
            physical(topic): topic
            for subtopology in self.topology.subtopologies
            if not subtopology.is_global
            for topic in subtopology.source_topics
        }
        self._written_serdes = {
            physical(node.topic): (node.key_serde, node.value_serde)
            for node in self.topology.nodes.values()
            if isinstance(node, Sink) and node.topic is not None
        }
        self._task: Task | None = None
        self._loop = PrivateLoop()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "TopologyTestDriver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete everything."""
        if self._task is not None:
            self._task.close()
            self._task = None
        self._loop.close()
        self._globals.close()
        self._directory.close()
        self._folder.cleanup()

    # ---- topics ------------------------------------------------------------------------------------------

    def create_input_topic(
        self,
        topic: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        start_ms: int | None = None,
        advance: timedelta = timedelta(),
    ) -> TestInputTopic[K, V]:
        """A topic to write to.

        Args:
            topic: Its name.
            key_serde: How keys are written.
            value_serde: How values are written.
            start_ms: Time of the first record that is given none; None for the wall clock's.
            advance: Time between two such records.
        """
        start = self.clock.time_ms() if start_ms is None else start_ms
        return TestInputTopic(topic, key_serde, value_serde, self.pipe, start_ms=start, advance=advance)

    def create_output_topic(self, topic: str, key_serde: Serde[K], value_serde: Serde[V]) -> TestOutputTopic[K, V]:
        """A topic to read from, which need not exist yet; two of one name share what is read.

        Args:
            topic: Its name, that of an internal topic with the application id.
            key_serde: How keys are read.
            value_serde: How values are read.
        """
        return TestOutputTopic(topic, key_serde, value_serde, self._outputs[topic])

    def produced_topic_names(self) -> set[str]:
        """The topics that the topology has written to, internal ones included."""
        return set(self._produced)

    def pipe(
        self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()
    ) -> None:
        """Process a record of bytes, and everything that follows from it.

        Raises:
            StreamlibError: What a worker would stop with; the driver cannot go on then.
            LookupError: Nobody reads the topic.
        """
        self.pipe_rows(topic, [Row(key, value, timestamp_ms, headers)])

    def pipe_rows(self, topic: str, rows: Sequence[Row]) -> None:
        """The same for several records that come in one poll."""
        self._match(topic)
        if topic not in self._inputs and topic not in self._globals.specs:
            patterns = [f"/{pattern.pattern}/" for pattern in self._patterns]
            known = ", ".join([*sorted({*self._inputs, *self._globals.specs}), *patterns])
            msg = f'no source reads the topic "{topic}"; there are: {known}'
            raise LookupError(msg)
        first = len(self.logs.topics[topic])
        self.logs.topics[topic] += rows
        self._deliver(topic, first, first + len(rows))
        self._run()

    def explain(
        self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()
    ) -> Explanation:
        """Process a record of bytes as `pipe` does; what happened to it, node by node, and what was written.

        What follows the end of its way, such as the flush of a cache, belongs to it, too. Raises as `pipe`.
        """
        explanation = self._recorder.explanation = Explanation()
        try:
            self.pipe(topic, key, value, timestamp_ms, headers)
        finally:
            self._recorder.explanation = None
        return explanation

    # ---- time --------------------------------------------------------------------------------------------

    def advance_wall_clock_time(self, by: timedelta) -> None:
        """Move the wall clock; punctuators that are due run once, whatever the step."""
        self.clock.advance_ms(to_ms(by))
        try:
            self.task.punctuate(self.clock.time_ms())
            self._loop.finish_calls(self.task)
            self._commit()
        except RetryLaterError:
            self._start_over()
        self._run()

    # ---- stores ------------------------------------------------------------------------------------------

    def get_state_store(self, name: str) -> Any:
        """A store by the type it was built with, as a processor gets it.

        Raises:
            LookupError: There is no such store.
        """
        return self._stores.get(name)

    def get_all_state_stores(self) -> dict[str, Any]:
        """All stores that processors could use, by name."""
        return self._stores.all()

    def get_key_value_store(self, name: str) -> KeyValueStore[Any, Any]:
        """A key-value store, a table's too; without timestamps.

        Raises:
            LookupError: There is no such store.
            TypeError: It is of another kind.
        """
        store: KeyValueStore[Any, Any] = self._stores.get(name, "key_value", timestamps=False)
        return store

    def get_timestamped_key_value_store(self, name: str) -> TimestampedKeyValueStore[Any, Any]:
        """A table's store, or another key-value store with timestamps. Raises as `get_key_value_store`."""
        store: TimestampedKeyValueStore[Any, Any] = self._stores.get(name, "key_value", timestamps=True)
        return store

    def get_versioned_key_value_store(self, name: str) -> VersionedKeyValueStore[Any, Any]:
        """A versioned store. Raises as `get_key_value_store`."""
        store: VersionedKeyValueStore[Any, Any] = self._stores.get(name, "versioned")
        return store

    def get_window_store(self, name: str) -> WindowStore[Any, Any]:
        """A window store, a windowed table's too; without timestamps. Raises as `get_key_value_store`."""
        store: WindowStore[Any, Any] = self._stores.get(name, "window", timestamps=False)
        return store

    def get_timestamped_window_store(self, name: str) -> TimestampedWindowStore[Any, Any]:
        """A windowed table's store, or another window store with timestamps. Raises as `get_key_value_store`."""
        store: TimestampedWindowStore[Any, Any] = self._stores.get(name, "window", timestamps=True)
        return store

    def get_session_store(self, name: str) -> SessionStore[Any, Any]:
        """A session store. Raises as `get_key_value_store`."""
        store: SessionStore[Any, Any] = self._stores.get(name, "session")
        return store

    # ---- crashes -----------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Lose the worker and its disk: what is left is what the topics have, and the committed offsets."""
        assert self._task is not None, "the driver has crashed already, or is closed"
        task, self._task = self._task, None
        task.destroy()
        for store in self._global_stores.values():
            store.discard()

    def restart(self) -> None:
        """Begin again after `crash`: stores are rebuilt from their changelogs, inputs go on where they were committed.

        Operators that keep their time to themselves begin anew, as in a worker.
        """
        assert self._task is None, "the driver runs: crash() comes first"
        self._start()

    # ---- inside ------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """The task."""
        assert self._task is not None, "the driver has crashed or is closed: restart() it, or make another one"
        return self._task

    def store(self, name: str) -> StateStore:
        """An opened store, as operators see it."""
        return self._global_stores[name] if name in self._global_stores else self.task.stores.stores[name]

    @property
    def _stores(self) -> StateStores:
        task = self.task
        opened = {**task.stores.stores, **self._global_stores}
        global_stores = frozenset(self._global_stores)
        return StateStores(self.topology.stores, opened, task.tables, global_stores, task.context.stream_time)

    def _physical(self, topic: str) -> str:
        return self.topology.physical_topic(topic, self.config.application_id)

    def _start(self) -> None:
        """Open the stores, restore what their changelogs have, and begin."""
        for spec in self._globals.specs.values():
            self._global_stores[spec.name] = open_store(spec, MemoryEngine())
        self._globals.begin()
        for topic in self._globals.specs:
            self._globals.update(TopicPartition(topic, 0), self.logs.fetched(topic))
        self._start_task()

    def _start_task(self) -> None:
        task = self._factory.create(TASK, self.config.statestore_cache_max_bytes)
        task.calls.deferred = True
        task.transition(TaskState.RESTORING)
        for name, tp in task.stores.changelogs.items():
            # A source topic that serves as a changelog counts as far as it was processed.
            held = self._committed.get(tp)
            end = None if held is None else held.offset
            rows = self.logs.topics[tp.topic][:end]
            keys, values = [row.key for row in rows], [row.value for row in rows]
            task.stores.restore(name, keys, values, [row.timestamp_ms for row in rows])
            for _ in task.stores.apply_restored(name, len(self.logs.topics[tp.topic]) if end is None else end):
                pass
        task.start({tp: self._committed.get(tp, Position(0)) for tp in task.queues})
        task.transition(TaskState.RUNNING)
        self._task = task

    def _match(self, topic: str) -> None:
        """Have a topic read that is new and matches a pattern."""
        if topic in self._inputs or not any(pattern.fullmatch(topic) for pattern in self._patterns):
            return
        topology = resolved(self.topology, [*self._inputs, topic], self.config.application_id)
        source = next(
            (node for node in topology.nodes.values() if isinstance(node, Source) and topic in node.topics), None
        )
        if source is not None:  # else it is an internal one
            self.topology, self._inputs[topic] = topology, topic
            self._factory = replace(self._factory, topology=topology)
            read_also(self.task, TopicPartition(topic, 0), source)

    def _deliver(self, topic: str, first: int, end: int) -> None:
        """Put records where those who read their topic find them."""
        tp = TopicPartition(topic, 0)
        self._match(topic)
        if topic in self._globals.specs:
            self._globals.update(tp, self.logs.fetched(topic, first, end))
        if topic in self._inputs:
            for start in range(first, end, self._batch_rows):
                self.task.add(tp, self.logs.fetched(topic, start, min(end, start + self._batch_rows)))

    def _run(self) -> None:
        """Process until nothing waits."""
        self._distribute()
        while self.task.buffered:
            try:
                self._process()
            except RetryLaterError:
                self._start_over()
            self._distribute()

    def _process(self) -> None:
        rows = self.task.process(self._batch_rows)
        self._loop.finish_calls(self.task)
        self.largest_run = max(self.largest_run, rows)
        self._uncommitted += rows
        if self._uncommitted >= self._commit_rows or self.task.commit_requested or not self.task.buffered:
            self._commit()

    def _start_over(self) -> None:
        """Undo the work since the last commit, as far as it was not delivered, and begin there again at once."""
        task, self._task = self.task, None
        task.close()
        self.logs.forget_unread()
        self._uncommitted = 0
        self._start_task()
        for topic in self._inputs:
            tp = TopicPartition(topic, 0)
            first = self._committed.get(tp, Position(0)).offset
            for start in range(first, len(self.logs.topics[topic]), self._batch_rows):
                self.task.add(tp, self.logs.fetched(topic, start, start + self._batch_rows))

    def _commit(self) -> None:
        """What a worker does at a commit, but at once."""
        self._uncommitted = 0
        task = self.task
        while task.flush(ALL_ROWS) or self._loop.finish_calls(task):
            pass
        task.stores.acknowledged({tp: len(self.logs.topics[tp.topic]) for tp in task.stores.changelogs.values()})
        for _ in task.stores.apply():
            pass
        for tp, held in task.offsets().items():
            self._committed[tp] = decode_position(held.offset, held.metadata)
        task.committed()

    def _distribute(self) -> None:
        """Deliver what was written, in the order of writing."""
        unread, self.logs.unread = self.logs.unread, []
        for topic, written in groupby(unread, itemgetter(0)):
            offsets = [offset for _, offset in written]
            self._produced.add(topic)
            rows = self.logs.topics[topic][offsets[0] : offsets[-1] + 1]
            self._outputs[topic].extend(rows)
            if self._recorder.explanation is not None:
                self._recorder.explanation.steps += [self._write(topic, row) for row in rows]
            self._deliver(topic, offsets[0], offsets[-1] + 1)

    def _write(self, topic: str, row: Row) -> Write:
        """A record that was written, decoded if it is known how."""
        serdes = self._written_serdes.get(topic)
        if serdes is None:
            return Write(topic, row.key, row.value, row.timestamp_ms)
        key, value = (
            serde.deserialize_many([data])[0] for serde, data in zip(serdes, (row.key, row.value), strict=True)
        )
        return Write(topic, key, value, row.timestamp_ms)


def _config(topology: Topology, given: StreamsConfig | Mapping[str, Any] | None) -> StreamsConfig:
    if isinstance(given, StreamsConfig):
        return replace(given, emit_interval_ms=0)
    settings = {"application_id": topology.name or "test", **(given or {}), "emit_interval_ms": 0}
    return StreamsConfig.from_mapping(settings)


def _in_one_task(topology: Topology) -> Topology:
    """The plan with all its sub-topologies in one."""
    parts = [part for part in topology.subtopologies if not part.is_global]
    whole = Subtopology(
        TASK.subtopology,
        nodes=tuple(name for name in topology.nodes if any(name in part.nodes for part in parts)),
        source_topics=tuple(dict.fromkeys(topic for part in parts for topic in part.source_topics)),
        sink_topics=tuple(dict.fromkeys(topic for part in parts for topic in part.sink_topics)),
        stores=tuple(dict.fromkeys(store for part in parts for store in part.stores)),
    )
    others = tuple(part for part in topology.subtopologies if part.is_global)
    return replace(topology, subtopologies=(whole, *others))
