"""`TopologyTestDriver`: a topology in one process, without a broker, record by record, on a clock that stands still.

It runs the tasks, operators and stores of a worker; only the broker is left out. All sub-topologies form one task with
one partition of each topic. A record that is piped in is processed to the end before the call returns: it goes through
its operators, the caches are flushed, the stores applied, and what was written to a topic that somebody reads is put in
that topic's queue, until all queues are empty. Changelogs are kept, so a test can let the worker crash.

Source: TopologyTestDriver (KIP-247, KIP-470). Next: `topics`, what a test writes to and reads from.
"""

import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from streamlib.config import StreamsConfig
from streamlib.metrics import Metrics
from streamlib.record import FetchedBatch, Headers, TopicPartition
from streamlib.runtime.global_updates import GlobalUpdates
from streamlib.runtime.offset_metadata import decode_partition_time
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.record_collector import RecordCollector
from streamlib.runtime.task import Task
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_state import TaskState
from streamlib.serdes.base import Serde
from streamlib.state.base import StateStore
from streamlib.state.directory import StateDirectory
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksMemory
from streamlib.state.stores import open_store
from streamlib.testing.clock import ManualClock
from streamlib.testing.topics import Row, TestInputTopic, TestOutputTopic
from streamlib.topology.subtopologies import Subtopology
from streamlib.topology.topology import Topology
from streamlib.topology.windows import to_ms

K = TypeVar("K")
V = TypeVar("V")

ROCKSDB_BYTES = 16 * 1024 * 1024
ALL_ROWS = 1 << 62
TASK = TaskId(0, 0)


class OnePartitionEach(Mapping[str, int]):
    """The partition counts of all topics there could be."""

    def __getitem__(self, topic: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Logs:
    """All topics, in memory; implements `record_collector.ProducerInUse` for the task that writes to them.

    Attributes:
        topics: The records of each topic.
        unread: Topic and offset of the records that were written and not yet delivered, in the order of writing.
    """

    def __init__(self) -> None:
        self.topics: defaultdict[str, list[Row]] = defaultdict(list)
        self.unread: list[tuple[str, int]] = []

    @property
    def current(self) -> "Logs":
        """Itself: it never fails."""
        return self

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Write records."""
        rows = list(map(Row, keys, values, timestamps, headers or [()] * len(keys)))
        end = len(self.topics[tp.topic])
        self.topics[tp.topic] += rows
        self.unread += [(tp.topic, offset) for offset in range(end, end + len(rows))]

    def fetched(self, topic: str, first: int = 0, end: int | None = None) -> FetchedBatch:
        """The records of a topic from an offset up to another, as a poll gives them."""
        rows = self.topics[topic][first:end]
        end = first + len(rows)
        headers = [row.headers for row in rows]
        return FetchedBatch(
            [row.key for row in rows],
            [row.value for row in rows],
            [row.timestamp_ms for row in rows],
            list(range(first, end)),
            headers if any(headers) else None,
            end,
        )


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
        self.topology = _in_one_task(topology)
        self.clock = ManualClock(initial_wall_clock_ms)
        self.metrics = Metrics()
        self.logs = Logs()
        self.config = _config(topology, config)
        self.largest_run = 0
        self._batch_rows, self._commit_rows = batch_rows, commit_rows
        self._uncommitted = 0
        self._produced: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="streamlib-test-")
        self._outputs: defaultdict[str, deque[Row]] = defaultdict(deque)
        self._committed: dict[TopicPartition, tuple[int, int]] = {}
        self._global_stores: dict[str, StateStore] = {}
        self._globals = GlobalUpdates(self.topology, self.config, self.metrics, self._global_stores)
        self._directory = StateDirectory.open(
            Path(self._folder.name), self.config.application_id, RocksMemory(ROCKSDB_BYTES)
        )
        physical = self._physical
        self._factory = TaskFactory(
            self.topology,
            self.config,
            OnePartitionEach(),
            self._directory,
            RecordCollector(self.logs, OnePartitionEach(), physical),
            self.logs,
            self.metrics,
            self._global_stores,
            self.clock,
        )
        self._inputs = {
            physical(topic): topic
            for subtopology in self.topology.subtopologies
            if not subtopology.is_global
            for topic in subtopology.source_topics
        }
        self._task: Task | None = None
        self._start()

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
        if topic not in self._inputs and topic not in self._globals.specs:
            known = ", ".join(sorted({*self._inputs, *self._globals.specs}))
            msg = f'no source reads the topic "{topic}"; there are: {known}'
            raise LookupError(msg)
        first = len(self.logs.topics[topic])
        self.logs.topics[topic] += rows
        self._deliver(topic, first, first + len(rows))
        self._run()

    # ---- time --------------------------------------------------------------------------------------------

    def advance_wall_clock_time(self, by: timedelta) -> None:
        """Move the wall clock; punctuators that are due run once, whatever the step."""
        self.clock.advance_ms(to_ms(by))
        self._commit()
        self._run()

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

    def _physical(self, topic: str) -> str:
        return self.topology.physical_topic(topic, self.config.application_id)

    def _start(self) -> None:
        """Open the stores, restore what their changelogs have, and begin."""
        for topic, spec in self._globals.specs.items():
            self._global_stores[spec.name] = open_store(spec, MemoryEngine())
            self._globals.update(TopicPartition(topic, 0), self.logs.fetched(topic))
        task = self._factory.create(TASK, self.config.statestore_cache_max_bytes)
        task.transition(TaskState.RESTORING)
        for name, tp in task.stores.changelogs.items():
            # A source topic that serves as a changelog counts as far as it was processed.
            end = self._committed.get(tp, (None, -1))[0]
            rows = [row for row in self.logs.topics[tp.topic][:end] if row.key is not None]
            keys = [row.key for row in rows if row.key is not None]
            task.stores.stores[name].restore(keys, [row.value for row in rows], [row.timestamp_ms for row in rows])
            for _ in task.stores.apply_restored(name, len(self.logs.topics[tp.topic]) if end is None else end):
                pass
        task.start({tp: self._committed.get(tp, (0, -1)) for tp in task.queues})
        task.transition(TaskState.RUNNING)
        self._task = task

    def _deliver(self, topic: str, first: int, end: int) -> None:
        """Put records where those who read their topic find them."""
        tp = TopicPartition(topic, 0)
        if topic in self._globals.specs:
            self._globals.update(tp, self.logs.fetched(topic, first, end))
        if topic in self._inputs:
            for start in range(first, end, self._batch_rows):
                self.task.add(tp, self.logs.fetched(topic, start, min(end, start + self._batch_rows)))

    def _run(self) -> None:
        """Process until nothing waits."""
        self._distribute()
        while self.task.buffered:
            rows = self.task.process(self._batch_rows)
            self.largest_run = max(self.largest_run, rows)
            self._uncommitted += rows
            if self._uncommitted >= self._commit_rows or not self.task.buffered:
                self._commit()
            self._distribute()

    def _commit(self) -> None:
        """What a worker does at a commit, but at once."""
        self._uncommitted = 0
        task = self.task
        while task.flush(ALL_ROWS):
            pass
        task.stores.acknowledged({tp: len(self.logs.topics[tp.topic]) for tp in task.stores.changelogs.values()})
        for _ in task.stores.apply():
            pass
        for tp, held in task.offsets().items():
            self._committed[tp] = held.offset, decode_partition_time(held.metadata)
        task.committed()

    def _distribute(self) -> None:
        """Deliver what was written, in the order of writing."""
        unread, self.logs.unread = self.logs.unread, []
        for topic, written in groupby(unread, itemgetter(0)):
            offsets = [offset for _, offset in written]
            self._produced.add(topic)
            self._outputs[topic].extend(self.logs.topics[topic][offsets[0] : offsets[-1] + 1])
            self._deliver(topic, offsets[0], offsets[-1] + 1)


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
