"""Global stores that user code fills: the records of their topics go through a processor, again after each restart.

What a worker has of such a store is what its processor made of the topic up to an offset; only what follows is taken
through it then. Source: GlobalStateUpdateTask, GlobalStateManagerImpl.reprocessState (KAFKA-7663).
Next: `global_updates`, for which a topic's rows are the store's.
"""

from collections.abc import Callable, Mapping

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.metrics import Metrics
from streamlib.operators.base import ErrorHandler
from streamlib.record import FetchedBatch, RecordBatch, TopicPartition
from streamlib.runtime.lowering import Pipeline, lower
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.punctuation import Punctuations, Schedule
from streamlib.runtime.record_errors import RecordErrors
from streamlib.runtime.record_queue import RecordQueue
from streamlib.runtime.task import TaskContext
from streamlib.runtime.task_errors import TaskErrors
from streamlib.state.base import StateStore
from streamlib.topology.nodes import Sink, Source
from streamlib.topology.processor_api import PunctuationType
from streamlib.topology.processor_nodes import ProcessorNode
from streamlib.topology.subtopologies import Subtopology
from streamlib.topology.topology import Topology

GLOBAL_TASK = TaskId(-1, -1)


class NoSinks:
    """Where a processor without children writes; implements `operators.base.Collector`."""

    def send(
        self, sink: Sink, batch: RecordBatch, topic: str | None = None, errors: ErrorHandler | None = None
    ) -> None:
        """Refuse: nothing follows such a processor."""
        raise AssertionError(f"a global store's processor is followed by {sink.name}")


class NoPunctuations(Punctuations):
    """Schedules of processors that nobody calls but for records."""

    def schedule_at(self, at_ms: int, kind: PunctuationType, fire: Callable[[int], object]) -> Schedule:
        """Refuse. Raises as `schedule`."""
        return self.schedule(1, kind, fire)

    def schedule(self, interval_ms: int, kind: PunctuationType, fire: Callable[[int], object]) -> Schedule:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        msg = "the processor of a global store cannot schedule punctuators: a processor of a stream can"
        raise ValueError(msg)


class GlobalProcessors:
    """Runs the processors that fill global stores.

    Args:
        topology: The plan.
        config: The worker's settings.
        metrics: Counters.
        stores: The opened global stores by name; filled before `begin`.
        clock: For the processors.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        metrics: Metrics,
        stores: Mapping[str, StateStore],
        clock: Clock,
    ) -> None:
        self._topology = topology
        self._stores = stores
        errors = RecordErrors(config, topology.nodes, None, metrics, clock)
        self._context = TaskContext(GLOBAL_TASK, NoSinks(), metrics, config, clock, errors)
        self._context.timers = NoPunctuations(clock)
        self._sources: dict[str, tuple[Source, Subtopology]] = {}
        for part in topology.subtopologies:
            nodes = [topology.nodes[name] for name in part.nodes]
            if part.is_global and any(isinstance(node, ProcessorNode) for node in nodes):
                self._sources |= {t: (node, part) for node in nodes if isinstance(node, Source) for t in node.topics}
        self._pipelines: dict[int, Pipeline] = {}

    @property
    def errors(self) -> TaskErrors:
        """Where errors of records of global tables arrive."""
        return self._context.errors

    @property
    def topics(self) -> frozenset[str]:
        """The topics whose records go through a processor."""
        return frozenset(self._sources)

    def begin(self) -> None:
        """Make the processors; the stores are open.

        Raises:
            ProcessingError: One of them could not begin.
        """
        self.close()
        for _, part in self._sources.values():
            pipeline = self._pipelines[part.number] = lower(self._topology, part, self._stores, self._context)
            pipeline.init()

    def update(self, tp: TopicPartition, batch: FetchedBatch) -> None:
        """Take records through the processor of their topic.

        Raises:
            DeserializationError, ProcessingError: The policy is to fail.
        """
        source, part = self._sources[tp.topic]
        entry = self._pipelines[part.number].sources[source.name]
        queue = RecordQueue(tp, source, decode_values=True, errors=self._context.errors)
        self._context.queues = {tp: queue}
        queue.start(batch.offsets[0] if batch.offsets else 0, self._context.stream_time)
        queue.add(batch)
        self._context.tp = tp
        while queue.head_time() is not None:
            run = queue.take(None, 1 if entry.record_order else len(batch))
            self._context.take(run)
            entry.process(run)

    def close(self) -> None:
        """Close the processors."""
        for pipeline in self._pipelines.values():
            pipeline.close()
        self._pipelines.clear()
