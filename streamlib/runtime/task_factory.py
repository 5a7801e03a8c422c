"""Makes tasks: opens their stores, lowers their sub-topology, connects their queues. Next: `task`."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.metrics import Metrics
from streamlib.operators.base import Collector
from streamlib.record import TopicPartition
from streamlib.runtime.buffered_changelog import BufferedChangelog
from streamlib.runtime.future_times import FutureTimes
from streamlib.runtime.lowering import lower
from streamlib.runtime.partition_group import PartitionGroup
from streamlib.runtime.partitions import TaskId, task_partitions
from streamlib.runtime.record_collector import ChangelogTopicWriter, ProducerInUse
from streamlib.runtime.record_errors import RecordErrors
from streamlib.runtime.record_queue import RecordQueue
from streamlib.runtime.task import Task, TaskContext
from streamlib.runtime.task_stores import TaskStores, open_engine
from streamlib.state.base import ChangelogWriter, PendingLog, StateStore, TaskEngine
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.custom import CustomEngine, CustomStateStore, FlushedAtCommit
from streamlib.state.directory import StateDirectory
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import open_store
from streamlib.topology.nodes import Source
from streamlib.topology.processor_nodes import ProcessorNode, TableTransformValues
from streamlib.topology.topology import Subtopology, Topology

USER_CODE = (ProcessorNode, TableTransformValues)
"""Node types that write stores row by row."""

READ_CACHE_SHARE = 4  # a store's clean rows get a quarter of an even part of what write caches may hold, on top of it


@dataclass(frozen=True)
class TaskFactory:
    """What all tasks of a worker are made from.

    Attributes:
        topology: The plan.
        config: The worker's settings.
        counts: Partition counts of source topics by their names in the plan.
        directory: Where state lives.
        collector: Where sinks write.
        producer: Where changelogs are written.
        metrics: The worker's counters.
        global_stores: Stores that every task may read.
        clock: For operators.
        errors: What happens to records that fail.
        caches: Memory that the write caches of all tasks share; of 0 bytes if there are none.
        future_times: What to do about records of the future; None: they are like others.
        ordered: Whether each row goes all the way down before the next one; see `lowering.lower`.
    """

    topology: Topology
    config: StreamsConfig
    counts: Mapping[str, int]
    directory: StateDirectory
    collector: Collector
    producer: ProducerInUse
    metrics: Metrics
    global_stores: Mapping[str, StateStore]
    clock: Clock
    errors: RecordErrors
    caches: CacheMemory
    future_times: FutureTimes | None = None
    ordered: bool = False

    def create(
        self,
        task_id: TaskId,
        cache_bytes: int,
        assigned: Collection[TopicPartition] | None = None,
        stores: TaskStores | None = None,
    ) -> Task:
        """A task in state CREATED, its stores as they were left on disk.

        Args:
            task_id: Which task.
            cache_bytes: Memory for rows that its stores keep for reading; see `READ_CACHE_SHARE`.
            assigned: What it reads; None for its partition of all topics.
            stores: Its stores, if they are open.

        Raises:
            StateStoreError: A store cannot be opened (a corrupt one is set aside and starts empty).
        """
        subtopology = self.subtopology(task_id)
        context = TaskContext(task_id, self.collector, self.metrics, self.config, self.clock, self.errors)
        inputs = task_partitions(self.topology, task_id, self.counts, self.config.application_id)
        if assigned is not None:
            inputs = {tp: topic for tp, topic in inputs.items() if tp in assigned}
        context.future_times = self.future_times
        context.inputs = {topic: tp for tp, topic in inputs.items()}
        if stores is None:
            stores = self.open_stores(task_id, cache_bytes)
        pipeline = lower(
            self.topology,
            subtopology,
            {**self.global_stores, **stores.stores},
            context,
            caches=self.caches if self.caches.total_bytes else None,
            ordered=self.ordered,
        )
        sources = {
            topic: node
            for name in subtopology.nodes
            if isinstance(node := self.topology.nodes[name], Source)
            for topic in node.topics
        }
        queues = {
            tp: RecordQueue(
                tp,
                sources[topic],
                pipeline.sources[sources[topic].name].reads_values or self._checks_values(topic),
                context.errors,
                None if topic in self.topology.repartition_topics else self.future_times,
            )
            for tp, topic in inputs.items()
        }
        return Task(task_id, PartitionGroup(queues), stores, pipeline, context)

    def _checks_values(self, topic: str) -> bool:
        """Whether values are decoded that no operator reads: only to notice those that others have written wrongly."""
        return self.config.decode_unread_values and topic not in self.topology.repartition_topics

    def subtopology_of_topic(self) -> dict[str, int]:
        """The number of the sub-topology that reads each topic, by its name on the broker."""
        return {
            self.topology.physical_topic(topic, self.config.application_id): sub.number
            for sub in self.topology.subtopologies
            if not sub.is_global
            for topic in sub.source_topics
        }

    def subtopology(self, task_id: TaskId) -> Subtopology:
        """The sub-topology a task runs."""
        return next(sub for sub in self.topology.subtopologies if sub.number == task_id.subtopology)

    def open_stores(self, task_id: TaskId, cache_bytes: int) -> TaskStores:
        """The stores of a task: on one engine for those on disk and one for those in memory.

        Args:
            task_id: Which task.
            cache_bytes: Memory for rows that its stores keep for reading; see `READ_CACHE_SHARE`.

        Raises:
            StateStoreError: A store cannot be opened (a corrupt one is set aside and starts empty).
        """
        specs = [self.topology.stores[name] for name in self.subtopology(task_id).stores]
        with ExitStack() as stack:
            by_kind: dict[bool, TaskEngine] = {
                persistent: stack.enter_context(
                    closing(open_engine(self.directory, str(task_id), persistent=persistent))
                )
                for persistent in {spec.persistent for spec in specs}
            }
            stores = self._stores_on(by_kind, specs, task_id, cache_bytes)
            stack.pop_all()  # they stay open
        return stores

    def _stores_on(
        self, by_kind: Mapping[bool, TaskEngine], specs: Sequence[StoreSpec], task_id: TaskId, cache_bytes: int
    ) -> TaskStores:
        subtopology = self.subtopology(task_id)
        opened: dict[str, StateStore] = {}
        nodes = [self.topology.nodes[name] for name in subtopology.nodes]
        for_users = {store for node in nodes if isinstance(node, USER_CODE) for store in node.stores}
        tables = {getattr(node, "store", None) for node in nodes}  # which have write caches of their own
        logs: list[PendingLog] = []
        custom: dict[str, TaskEngine] = {}
        changelogs: dict[str, TopicPartition] = {}
        for spec in specs:
            topic = self.topology.changelog_topic(spec.name, self.config.application_id)
            writer: ChangelogWriter | None = None
            if topic is not None:
                changelogs[spec.name] = TopicPartition(topic, task_id.partition)
                if spec.source_topic is None:  # else whoever fills the topic logs
                    writer = ChangelogTopicWriter(self.producer, changelogs[spec.name])
                    if spec.name in for_users:
                        caching = self.caches.total_bytes > 0 and spec.caching and spec.name not in tables
                        writer = BufferedChangelog(writer, caching=caching)
                        logs.append(writer)
            if spec.kind == "custom":
                assert spec.supplier is not None, f"{spec.name} has no supplier"
                own = CustomStateStore(spec.name, spec.supplier, str(task_id), writer)
                opened[spec.name], custom[spec.name] = own, CustomEngine(own)
                logs.insert(0, FlushedAtCommit(own))  # before what it logs is handed on
                continue
            share = cache_bytes // len(specs)
            if not (spec.retain_duplicates and spec.kind == "window"):  # those of joins have no write cache
                share //= READ_CACHE_SHARE
            opened[spec.name] = open_store(spec, by_kind[spec.persistent], writer, cache_bytes=share)
        engines = {spec.name: by_kind[spec.persistent] for spec in specs} | custom
        source_serdes = {
            spec.name: (spec.key_serde, spec.value_serde) for spec in specs if spec.source_topic is not None
        }
        return TaskStores(opened, engines, changelogs, logs, source_serdes)
