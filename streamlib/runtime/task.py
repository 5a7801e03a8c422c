"""A task: one partition of one sub-topology, with its queues, stores and operators. Nothing is shared between tasks.

The task decides nothing about the group or commits; the worker calls it. It takes the run of records with the lowest
time among its inputs, sends it through its operators, and remembers how far it came.

Source: StreamTask. Next: `partition_group`, its inputs; `operators/fusion` and what follows; `record_collector`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import DeserializationError, ProcessingError
from streamlib.metrics import Metrics
from streamlib.operators.base import Collector, ErrorHandler
from streamlib.operators.selection import picked
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.lowering import Pipeline
from streamlib.runtime.offset_metadata import encode_partition_time
from streamlib.runtime.partition_group import PartitionGroup
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.record_queue import SHOWN_BYTES
from streamlib.runtime.task_state import LEGAL, TaskState
from streamlib.runtime.task_stores import TaskStores
from streamlib.transport.base import OffsetAndMetadata


class TaskContext:
    """What operators get from their task, and where their errors arrive.

    Attributes:
        stream_time: Highest timestamp taken so far by the task, -1 before the first; the task moves it on.
        tp: Where the records being processed come from; None outside of processing.

    Implements `operators.base.OperatorContext`, `ErrorHandler` and `record_queue.DecodeErrors`.
    """

    def __init__(
        self, task_id: TaskId, collector: Collector, metrics: Metrics, config: StreamsConfig, clock: Clock
    ) -> None:
        self.task_id = task_id
        self.collector = collector
        self.metrics = metrics
        self.clock = clock
        self.emit_interval_ms = config.emit_interval_ms
        self.stream_time = -1
        self.tp: TopicPartition | None = None
        self._config = config

    @property
    def errors(self) -> ErrorHandler:
        """The processing-error policy."""
        return self

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        """Count and return under the policy ``skip``; raise otherwise."""
        if self._config.processing_error == "skip":
            self.metrics.dropped(node, "processing-error")
            return
        where = "" if self.tp is None else f" topic={self.tp.topic} partition={self.tp.partition}"
        offset_text = "unknown (from a cache flush)" if offset is None else str(offset)
        msg = (
            f"a user function raised {error!r}: task={self.task_id} node={node}{where} offset={offset_text} "
            f"timestamp={timestamp}. Nothing after the last commit counts. Mend the function and start again, or skip "
            "such records with --on-processing-error skip."
        )
        raise ProcessingError(msg) from error

    def undecodable(self, error: Exception, part: str, tp: TopicPartition, offset: int, data: bytes) -> None:
        """Count and return under the policy ``skip``; raise otherwise."""
        if self._config.deserialization_error == "skip":
            self.metrics.dropped(f"{tp.topic}", "deserialization-error")
            return
        shown = data[:SHOWN_BYTES].hex() + ("..." if len(data) > SHOWN_BYTES else "")
        msg = (
            f"the {part} of a record cannot be decoded: {error}: task={self.task_id} topic={tp.topic} "
            f"partition={tp.partition} offset={offset} first bytes={shown}. Mend the source's serde, or skip such "
            "records with --on-deserialization-error skip."
        )
        raise DeserializationError(msg) from error


class Task:
    """One partition of one sub-topology.

    Attributes:
        task_id: Sub-topology and partition.
        queues: Its inputs.
        stores: Its state.
    """

    def __init__(
        self,
        task_id: TaskId,
        inputs: PartitionGroup,
        stores: TaskStores,
        pipeline: Pipeline,
        context: TaskContext,
    ) -> None:
        self.task_id = task_id
        self.queues = inputs.queues
        self.stores = stores
        self.state = TaskState.CREATED
        self._inputs = inputs
        self._pipeline = pipeline
        self._context = context
        self._committed: dict[TopicPartition, int] = {}
        self._idle_since_ms: int | None = None

    def __repr__(self) -> str:
        return f"<Task {self.task_id} {self.state.value}>"

    def transition(self, state: TaskState) -> None:
        """Go to another state; only legal ones."""
        assert state in LEGAL[self.state], f"task {self.task_id}: {self.state.value} cannot become {state.value}"
        self.state = state

    def start(self, positions: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Begin at (offset, partition time) of each input."""
        self._inputs.start(positions)
        self._committed.update({tp: offset for tp, (offset, _) in positions.items()})
        self._context.stream_time = max((queue.partition_time for queue in self.queues.values()), default=-1)
        self._pipeline.init()

    @property
    def stream_time(self) -> int:
        """Highest timestamp taken so far, -1 before the first."""
        return self._context.stream_time

    @property
    def buffered(self) -> int:
        """Records that wait."""
        return self._inputs.buffered

    def add(self, tp: TopicPartition, batch: FetchedBatch) -> None:
        """Take in what a poll brought."""
        self._inputs.add(tp, batch)

    def ready(self, lag: Callable[[TopicPartition], int | None], now_ms: int, max_idle_ms: int) -> bool:
        """Whether to go on now: an empty input whose records are on their way is waited for.

        Source: PartitionGroup.readyToProcess.
        """
        empty = [tp for tp, queue in self.queues.items() if not queue.buffered]
        if len(empty) == len(self.queues):
            return False
        if not empty:
            self._idle_since_ms = None
            return True
        if any(lag(tp) != 0 for tp in empty):
            return False
        if self._idle_since_ms is None:
            self._idle_since_ms = now_ms
        return now_ms - self._idle_since_ms >= max_idle_ms

    def process(self, max_rows: int) -> int:
        """Take one run of records, at most ``max_rows``, through the operators; returns how many.

        None is taken when the records of an input all turn out to be skipped: ask again whether the task is `ready`.

        Raises:
            ProcessingError, DeserializationError, SerdeError: The policy is to fail: the worker stops, and nothing
                since the last commit counts.
        """
        taken = self._inputs.take(max_rows)
        for queue in self.queues.values():
            if negative := queue.take_negative_count():
                self._context.metrics.dropped(queue.source.name, "negative-timestamp", negative)
        if taken is None:
            return 0
        queue, run = taken
        context = self._context
        context.tp = queue.tp
        entry = self._pipeline.sources[queue.source.name]
        if entry.record_order and len(run) > 1:
            for row in (picked(run, [number]) for number in range(len(run))):
                context.stream_time = max(context.stream_time, row.timestamps[0])
                entry.process(row)
        else:
            context.stream_time = max(context.stream_time, queue.partition_time)
            entry.process(run)
        return len(run)

    def flush(self, max_rows: int) -> bool:
        """Flush write caches, upstream ones first; returns whether more remains after about ``max_rows``."""
        self._context.tp = None
        return self._pipeline.flush(max_rows)

    @property
    def dirty(self) -> bool:
        """Whether anything was taken since the last commit."""
        return any(queue.next_offset != self._committed.get(tp) for tp, queue in self.queues.items())

    def offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What to commit for the inputs that moved."""
        return {
            tp: OffsetAndMetadata(queue.next_offset, encode_partition_time(queue.partition_time))
            for tp, queue in self.queues.items()
            if queue.next_offset != self._committed.get(tp)
        }

    def committed(self) -> None:
        """Everything so far is committed."""
        self._committed = {tp: queue.next_offset for tp, queue in self.queues.items()}
        for store, count in self.stores.take_expired().items():
            self._context.metrics.dropped(store, "expired", count)

    def drop_work(self) -> None:
        """Forget everything since the last commit; the task must be restored before it runs again."""
        self.stores.discard()
        self._pipeline.discard()
        if self.state in (TaskState.RUNNING, TaskState.SUSPENDED):
            self.transition(TaskState.RESTORING)

    def destroy(self) -> None:
        """Close the stores and delete what they hold: a new task rebuilds it from the changelogs."""
        self.transition(TaskState.CLOSED)
        self.stores.destroy()

    def close(self) -> None:
        """Close the stores; uncommitted work is dropped."""
        if self.state is not TaskState.CLOSED:
            self.transition(TaskState.CLOSED)
            self.stores.close()
