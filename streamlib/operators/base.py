"""What an operator is: it takes a batch and pushes batches to what comes after it.

Operators are synchronous and do no I/O but their stores. A batch goes through an operator as a whole before the next
operator sees its result; `topology/interference` tells the task where that could change a result (two branches that
meet again, a store used twice), and there the task feeds records one at a time.

Next: `fusion` (stateless runs), then the stateful operators, one family a file; `runtime/record_collector` after sinks.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import StreamlibError
from streamlib.metrics import Metrics
from streamlib.record import RecordBatch, TopicPartition
from streamlib.topology.async_nodes import CallPolicy
from streamlib.topology.nodes import Sink
from streamlib.topology.processor_api import Cancellable, PunctuationType

Forward = Callable[[RecordBatch], None]
"""Takes an operator's output to all its children, in the order they were connected."""


class Operator(Protocol):
    """One physical processor, or a fused run of them."""

    def process(self, batch: RecordBatch) -> None:
        """Take a batch; outputs go to the operator's `Forward` before this returns."""


@runtime_checkable
class FlushingOperator(Operator, Protocol):
    """An operator with a write cache."""

    def flush(self, rows_max: int | None = None) -> int:
        """Write cached updates to the store and its changelog, and forward one for each changed key.

        Args:
            rows_max: At most so many, the oldest first, so that the event loop can run in between; None for all.

        Returns:
            How many are left.
        """


@runtime_checkable
class ClosingOperator(Operator, Protocol):
    """An operator that holds something of the user's."""

    def close(self) -> None:
        """Let it go: nothing comes any more. Must not raise."""


@runtime_checkable
class InitializedOperator(Operator, Protocol):
    """An operator that keeps something beside its stores: a buffer, a schedule, user code."""

    def init(self) -> None:
        """Forget all that, and take it from the stores: called when they are complete, before the first record.

        Called again after uncommitted work was dropped and the stores were restored.
        """


@runtime_checkable
class LoadingOperator(Operator, Protocol):
    """An `InitializedOperator` that takes so much from its stores that the event loop should run in between."""

    def load(self) -> Iterator[None]:
        """Take it in steps, before `init`, which takes what is left: all, where nobody has called this."""


@runtime_checkable
class AwaitingOperator(Operator, Protocol):
    """An operator whose results come later than its rows."""

    @property
    def room(self) -> int:
        """How many more rows it wants; it takes more, but then the task takes no more records."""

    def hand_on(self, rows_max: int) -> bool:
        """Forward results that have arrived, of at most ``rows_max`` rows; whether there were any."""


class Collector(Protocol):
    """Where sinks write; implemented by `runtime/record_collector`."""

    def send(
        self, sink: Sink, batch: RecordBatch, topic: str | None = None, errors: "ErrorHandler | None" = None
    ) -> None:
        """Serialize, partition and buffer a batch for the sink's topic, or for ``topic`` if it has none.

        Rows that cannot be written are left to ``errors``; without that they raise.
        """


class ErrorHandler(Protocol):
    """Decides what happens when a user function raises; implemented by the task, which knows the coordinates."""

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        """Return to drop this row at this node and go on with the next one.

        Raises:
            ProcessingError: The policy is to fail (the default); names node, topic, partition and offset.
        """

    def refused(self, error: StreamlibError, node: str, batch: RecordBatch, row: int) -> None:
        """Return to drop a row that a sink cannot write; ``error`` says why, and is raised if the policy is to fail."""


class Timers(Protocol):
    """Calls operators when time passes; implemented by `runtime/punctuation`."""

    def schedule(self, interval_ms: int, kind: PunctuationType, fire: Callable[[int], None]) -> Cancellable:
        """Call ``fire`` with the time (ms) at each interval, until cancelled or the task begins anew."""

    def schedule_at(self, at_ms: int, kind: PunctuationType, fire: Callable[[int], None]) -> Cancellable:
        """Call ``fire`` once, as soon as it is that late, until cancelled or the task begins anew."""

    def schedule_together(self, interval_ms: int, kind: PunctuationType, fire: Callable[[int], bool]) -> None:
        """The same for several: all that have one interval are called with one time, in the order they were given.

        Each tells whether it has done anything that is to be committed.
        """


class Calls(Protocol):
    """Runs asynchronous functions beside the task; implemented by `runtime/calls`."""

    def hold(self, tp: TopicPartition | None, offset: int | None) -> None:
        """A row is under way: the record it comes from must not be committed."""

    def release(self, tp: TopicPartition | None, offset: int | None) -> None:
        """What came of the row has gone on."""

    def begin(
        self,
        function: Callable[[], Awaitable[Any]],
        policy: CallPolicy,
        ended: Callable[[Any, Exception | None], bool],
    ) -> None:
        """Call a function, then ``ended`` with its result or error; that tells whether something can be handed on."""


class OperatorContext(Protocol):
    """What an operator gets from its task.

    Attributes:
        tp: Where the records being processed come from; None while caches are flushed, and in punctuations. An
            operator that lets go what it has held back sets it to where that came from, and back again.
    """

    tp: TopicPartition | None

    @property
    def inputs(self) -> Mapping[str, TopicPartition]:
        """The task's input for each source topic by its name in the plan."""

    @property
    def metrics(self) -> Metrics:
        """Counters."""

    @property
    def errors(self) -> ErrorHandler:
        """The processing-error policy."""

    @property
    def collector(self) -> Collector:
        """Sinks write here."""

    @property
    def partition(self) -> int:
        """The task's partition: what it reads comes from there."""

    @property
    def clock(self) -> Clock:
        """Wall-clock time."""

    @property
    def config(self) -> StreamsConfig:
        """The worker's settings."""

    @property
    def task_id(self) -> object:
        """As text, e.g. ``0_3``."""

    @property
    def calls(self) -> Calls:
        """Asynchronous functions."""

    @property
    def timers(self) -> Timers:
        """The task's schedules."""

    def request_commit(self) -> None:
        """Have the task committed soon."""

    def stream_time_at(self, offset: int | None) -> int:
        """What `stream_time` was when the record of that offset was taken, of those being processed.

        `stream_time` itself is that of the whole run. For rows without an offset they are the same.
        """

    @property
    def close_windows_after_idle_ms(self) -> int:
        """After how much wall-clock time without records windows close all the same; 0: never."""

    @property
    def records_wait(self) -> bool:
        """Whether the task has records that were not processed yet."""

    @property
    def emit_interval_ms(self) -> int:
        """Least wall-clock time between two emissions of results that wait for time to pass; 0: no throttle."""

    @property
    def processor_metadata(self) -> dict[str, int]:
        """What operators keep with the committed offsets, by the name of their store; read it in `init`.

        An entry that is changed is committed together with the record that is being processed.
        """

    @property
    def stream_time(self) -> int:
        """Highest timestamp of the records taken by the task so far, -1 before the first."""
