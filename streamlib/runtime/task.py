"""A task: one partition of one sub-topology, with its queues, stores and operators. Nothing is shared between tasks.

The task decides nothing about the group or commits; the worker calls it. It takes the run of records with the lowest
time among its inputs, sends it through its operators, and remembers how far it came.

Source: StreamTask. Next: `partition_group`, its inputs; `operators/fusion` and what follows; `record_collector`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.metrics import Metrics
from streamlib.operators.base import Collector
from streamlib.operators.join_in_turns import JoinInTurns
from streamlib.operators.selection import picked
from streamlib.operators.table_rows import TableRows
from streamlib.record import FetchedBatch, RecordBatch, TopicPartition
from streamlib.runtime.calls import Calls
from streamlib.runtime.future_times import FutureTimes
from streamlib.runtime.lowering import Pipeline
from streamlib.runtime.offset_metadata import Position, encode_metadata, merged
from streamlib.runtime.partition_group import PartitionGroup
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.progress import Reached
from streamlib.runtime.punctuation import Punctuations
from streamlib.runtime.record_errors import RecordErrors
from streamlib.runtime.record_queue import RecordQueue
from streamlib.runtime.task_errors import RawRecord, TaskErrors
from streamlib.runtime.task_state import LEGAL, TaskState
from streamlib.runtime.task_stores import TaskStores
from streamlib.runtime.turns import Turns
from streamlib.topology.nodes import Source
from streamlib.topology.processor_api import PunctuationType
from streamlib.transport.base import OffsetAndMetadata


class TaskContext:
    """What operators get from their task, and where their errors arrive.

    Attributes:
        stream_time: Highest timestamp taken so far by the task, -1 before the first; the task moves it on.
        processor_metadata: What operators keep with the committed offsets.
        tp: Where the records being processed come from; None outside of processing.
        inputs: The task's input for each source topic by its name in the plan.
        config: The worker's settings.
        timers: The task's schedules.
        calls: Its asynchronous calls.
        queues: The task's inputs.
        errors: Where errors of records arrive.
        commit_requested: Whether user code has asked for a commit since the last one.

    Implements `operators.base.OperatorContext` and `task_errors.Place`.
    """

    def __init__(
        self,
        task_id: TaskId,
        collector: Collector,
        metrics: Metrics,
        config: StreamsConfig,
        clock: Clock,
        errors: RecordErrors,
    ) -> None:
        self.task_id = task_id
        self.errors: TaskErrors = TaskErrors(self, errors)
        self._breaker = errors.breaker
        self.partition = task_id.partition
        self.collector = collector
        self.metrics = metrics
        self.clock = clock
        self.emit_interval_ms = config.emit_interval_ms
        self.close_windows_after_idle_ms = config.close_windows_after_idle_ms
        self.queues: Mapping[TopicPartition, RecordQueue] = {}
        self.stream_time = -1
        self.processor_metadata: dict[str, int] = {}
        self.tp: TopicPartition | None = None
        self.inputs: Mapping[str, TopicPartition] = {}
        self.future_times: FutureTimes | None = None
        self.config = config
        self.timers = Punctuations(clock)
        self.calls = Calls(task_id, clock)
        self.commit_requested = False
        self._run: RecordBatch | None = None
        self._time_before = -1
        self._times: dict[int, int] | None = None
        self._turns: Turns | None = None

    def take(self, run: RecordBatch) -> None:
        """Move stream time on by the records that are processed next."""
        self._run, self._times, self._time_before = run, None, self.stream_time
        self._breaker.took(len(run))
        self.stream_time = max(self.stream_time, *run.timestamps)

    def take_turns(self, turns: Turns) -> None:
        """The same for records of several inputs, whose offsets are their numbers in ``turns``."""
        self._turns, self._run, self.tp = turns, None, None
        self._breaker.took(turns.length)
        self.stream_time = max(self.stream_time, *(max(batch.timestamps) for _, batch in turns.batches))

    def leave_turns(self) -> None:
        """They are processed: offsets are offsets again."""
        self._turns = None

    @property
    def records_wait(self) -> bool:
        """Whether there are records that were not processed yet."""
        return any(queue.buffered for queue in self.queues.values()) or bool(self.calls.progress.rows)

    def leave(self) -> None:
        """The records that were taken are processed: what is forwarded now may come from others."""
        self._run = None

    def stream_time_at(self, offset: int | None) -> int:
        """What stream time was when the record of that offset was taken, of those being processed."""
        if self._run is None or self._run.offsets is None or offset is None:
            return self.stream_time
        if self._times is None:
            times = accumulate(self._run.timestamps, max, initial=self._time_before)
            next(times)
            self._times = dict(zip(self._run.offsets, times, strict=True))
        return self._times.get(offset, self.stream_time)

    def request_commit(self) -> None:
        """Have the task committed soon."""
        self.commit_requested = True

    def origin(self, offset: int | None) -> tuple[TopicPartition | None, int | None]:
        """Where the row with that offset comes from, of those being processed."""
        if self._turns is not None and offset is not None:
            return self._turns.origin(offset)
        return self.tp, offset

    def raw(self, tp: TopicPartition, offset: int) -> RawRecord | None:
        """A record as it was read, if it is still at hand."""
        queue = self.queues.get(tp)
        return None if queue is None else queue.raw(offset)


class Task:
    """One partition of one sub-topology.

    Attributes:
        task_id: Sub-topology and partition.
        queues: Its inputs.
        stores: Its state.
        context: What its operators get.
        calls: Its asynchronous calls.
        load: Takes what operators need from the stores, which are complete, in steps: `start` has less to do then.
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
        self.calls = context.calls
        self.load = pipeline.load
        must_end = pipeline.commits_wait or context.config.exactly_once
        self.calls.connect(pipeline.awaiting, must_end=must_end)
        self.state = TaskState.CREATED
        self._inputs = inputs
        self._pipeline = pipeline
        self.context = context
        context.queues = self.queues
        for tp, queue in self.queues.items():
            queue.needed_from = partial(self._needed_from, tp)
        self._committed: dict[TopicPartition, int] = {}
        self._committed_metadata: dict[str, int] = {}
        self._idle_since_ms: int | None = None
        self._wrote = False  # since the last commit, without taking a record: a punctuator did

    def __repr__(self) -> str:
        return f"<Task {self.task_id} {self.state.value}>"

    def transition(self, state: TaskState) -> None:
        """Go to another state; only legal ones."""
        assert state in LEGAL[self.state], f"task {self.task_id}: {self.state.value} cannot become {state.value}"
        self.state = state

    def start(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Begin where each input was committed."""
        self._inputs.start({tp: position[:2] for tp, position in positions.items()})
        self._committed.update({tp: position.offset for tp, position in positions.items()})
        kept = merged(position.processor for position in positions.values())
        self._committed_metadata = kept
        self.context.processor_metadata.clear()
        self.context.processor_metadata.update(kept)
        self.context.stream_time = max((queue.partition_time for queue in self.queues.values()), default=-1)
        self.context.timers.clear()
        self.context.commit_requested = self._wrote = False
        self.calls.cancel()
        for tp, position in positions.items():
            self.calls.progress.start(tp, position.offset, position.partition_time_ms)
        self._pipeline.init()
        self.stores.log()
        self._wrote = bool(self.stores.pending_rows)  # user code may have

    @property
    def tables(self) -> Mapping[str, TableRows]:
        """Every timestamped store that operators use, with its write cache, by name."""
        return self._pipeline.tables

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
        if len(empty) == len(self.queues) or not self.calls.room:
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
        """Take runs of records, at most ``max_rows`` together, through the operators; returns how many.

        None is taken when the records of an input all turn out to be skipped: ask again whether the task is `ready`.

        Raises:
            ProcessingError, DeserializationError, SerdeError: The policy is to fail: the worker stops, and nothing
                since the last commit counts.
        """
        rows = self._process_turns(max_rows)
        for queue in self.queues.values():
            if negative := queue.take_negative_count():
                self.context.metrics.dropped(queue.source.name, "negative-timestamp", negative)
        self.stores.log()
        return rows

    def _process_turns(self, max_rows: int) -> int:
        if self._pipeline.in_turns is not None:
            turns = self._inputs.take_turns(max_rows)
            return 0 if turns is None else self._join(turns, self._pipeline.in_turns)
        rows = 0
        while (taken := self._inputs.take(max(1, min(max_rows - rows, self.calls.room)))) is not None:
            self._process_run(*taken)
            rows += len(taken[1])
            # The next run may have to wait: for records of another input, for a commit, for asynchronous calls.
            others_wait = self._pipeline.awaiting or self.context.commit_requested
            if rows >= max_rows or others_wait or not all(queue.buffered for queue in self.queues.values()):
                break
        return rows

    def _join(self, turns: Turns, join: JoinInTurns) -> int:
        if len(turns.batches) == 1:
            self._process_run(*turns.batches[0])
            return turns.length
        sources = self._pipeline.sources
        self.context.take_turns(turns)
        try:
            join.process((sources[queue.source.name].process, batch) for queue, batch in turns.numbered())
        finally:
            self.context.leave_turns()
        return turns.length

    def _process_run(self, queue: RecordQueue, run: RecordBatch) -> None:
        context = self.context
        context.tp = queue.tp
        entry = self._pipeline.sources[queue.source.name]
        first = 0
        while first < len(run):
            end = first + 1 if entry.record_order else context.timers.rows_until_due(run.timestamps, first)
            part = run if end - first == len(run) else picked(run, list(range(first, end)))
            context.take(part)
            entry.process(part)
            self._punctuate(PunctuationType.STREAM_TIME, context.stream_time)
            first = end
        context.leave()
        if self._pipeline.awaiting:
            self.calls.progress.taken(queue.tp, queue.next_offset, queue.partition_time)

    def punctuate(self, now_ms: int) -> bool:
        """Fire the wall-clock schedules that are due; whether there were any. Raises as `process`."""
        fired = self._punctuate(PunctuationType.WALL_CLOCK_TIME, now_ms)
        if fired:
            self.stores.log()
        return fired

    @property
    def next_punctuation_ms(self) -> int | None:
        """When the next wall-clock schedule is due; None when there is none."""
        return self.context.timers.due(PunctuationType.WALL_CLOCK_TIME)

    def _punctuate(self, kind: PunctuationType, now: int) -> bool:
        context = self.context
        due = context.timers.due(kind)
        if due is None or due > now:
            return False
        tp, context.tp = context.tp, None
        fired = context.timers.fire(kind, now)
        context.tp = tp
        self._wrote = self._wrote or fired
        return fired

    def flush(self, max_rows: int) -> bool:
        """Flush write caches, upstream ones first; returns whether more remains after about ``max_rows``.

        Updates that lead to asynchronous calls are left for the time when these are fewer.
        """
        if self.calls.must_end and self.calls.places <= 0:
            return False
        self.context.tp = None
        more = self._pipeline.flush(max_rows)
        self.stores.log(commit=not more)
        return more

    def acknowledged(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note that the changelogs have every row written so far, and that an input's store has what was taken.

        Args:
            offsets: The offset after the last acknowledged record of each changelog written to.
        """
        self.stores.acknowledged({**offsets, **{tp: queue.next_offset for tp, queue in self.queues.items()}})

    @property
    def commit_requested(self) -> bool:
        """Whether user code has asked for a commit, and there is something to commit; or one has waited for calls."""
        if self.calls.holding:
            return not self.calls.progress.rows
        return self.context.commit_requested and self.dirty

    @property
    def dirty(self) -> bool:
        """Whether anything was taken, done by a punctuator or given by a call, since the last commit."""
        committed = self._committed
        if self._wrote or self.calls.handed_on:
            return True
        return any(queue.next_offset != committed.get(tp) for tp, queue in self.queues.items())

    def offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What to commit for the inputs that moved.

        For all of them when an operator keeps something new, or a punctuator may have written.
        """
        kept = self.context.processor_metadata
        changed = self._wrote or self.calls.handed_on or kept != self._committed_metadata
        reached = {tp: self._reached(tp) for tp in self.queues}
        return {
            tp: OffsetAndMetadata(each.offset, encode_metadata(each.partition_time_ms, kept))
            for tp, each in reached.items()
            if changed or each.offset != self._committed.get(tp)
        }

    def _needed_from(self, tp: TopicPartition) -> int:
        """Up to where nobody asks for an input's records any more."""
        return self._reached(tp).offset if self.calls.progress.rows else self.queues[tp].next_offset

    def _reached(self, tp: TopicPartition) -> Reached:
        """Up to where an input is processed, with all that came of it."""
        queue, progress = self.queues[tp], self.calls.progress
        now = Reached(queue.next_offset, queue.partition_time)
        return progress.reached(tp, now, self._committed.get(tp, 0)) if progress.rows else now

    def committed(self) -> None:
        """Everything so far is committed."""
        for queue in self.queues.values():
            queue.forget_raw()
        self._committed = {tp: self._reached(tp).offset for tp in self.queues}
        self._committed_metadata = dict(self.context.processor_metadata)
        self.context.commit_requested = self._wrote = self.calls.handed_on = False
        for store, count in self.stores.take_expired().items():
            self.context.metrics.dropped(store, "expired", count)

    def drop_work(self) -> None:
        """Forget everything since the last commit; the task must be restored before it runs again."""
        self.calls.cancel()
        self.stores.discard()
        self._pipeline.discard()
        if self.state in (TaskState.RUNNING, TaskState.SUSPENDED):
            self.transition(TaskState.RESTORING)

    def destroy(self) -> None:
        """Close the stores and delete what they hold: a new task rebuilds it from the changelogs."""
        self.transition(TaskState.CLOSED)
        self.calls.cancel()
        self._pipeline.close()
        self.stores.destroy()

    def give_up(self) -> TaskStores:
        """Close all but the stores, which are the caller's now and hold nothing but what is committed."""
        self.transition(TaskState.CLOSED)
        self.calls.cancel()
        self._pipeline.close()
        self.stores.discard()
        return self.stores

    def close(self) -> None:
        """Close the stores; uncommitted work is dropped."""
        if self.state is not TaskState.CLOSED:
            self.transition(TaskState.CLOSED)
            self.calls.cancel()
            self._pipeline.close()
            self.stores.close()


def read_also(task: Task, tp: TopicPartition, source: Source) -> None:
    """Give a task that runs one more input, of a source that reads a pattern; it was never read before."""
    context = task.context
    queue = RecordQueue(tp, source, True, context.errors, context.future_times)
    queue.start(0, -1)
    queue.needed_from = partial(task._needed_from, tp)
    task.queues[tp] = queue
    task._committed[tp] = 0
    task.calls.progress.start(tp, 0, -1)
    context.inputs = {**context.inputs, tp.topic: tp}
