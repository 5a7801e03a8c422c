"""What an operator is: it takes a batch and pushes batches to what comes after it.

Operators are synchronous and do no I/O but their stores. A batch goes through an operator as a whole before the next
operator sees its result; `topology/interference` tells the task where that could change a result (two branches that
meet again, a store used twice), and there the task feeds records one at a time.

Next: `fusion` (stateless runs), then the stateful operators, one family a file; `runtime/record_collector` after sinks.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from streamlib.clock import Clock
from streamlib.metrics import Metrics
from streamlib.record import RecordBatch
from streamlib.topology.nodes import Sink

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
class InitializedOperator(Operator, Protocol):
    """An operator that keeps something beside its stores: a buffer, a schedule, user code."""

    def init(self) -> None:
        """Forget all that, and take it from the stores: called when they are complete, before the first record.

        Called again after uncommitted work was dropped and the stores were restored.
        """


class Collector(Protocol):
    """Where sinks write; implemented by `runtime/record_collector`."""

    def send(self, sink: Sink, batch: RecordBatch) -> None:
        """Serialize, partition and buffer a batch for the sink's topic."""


class ErrorHandler(Protocol):
    """Decides what happens when a user function raises; implemented by the task, which knows the coordinates."""

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        """Return to drop this row at this node and go on with the next one.

        Raises:
            ProcessingError: The policy is to fail (the default); names node, topic, partition and offset.
        """


class OperatorContext(Protocol):
    """What an operator gets from its task."""

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
    def clock(self) -> Clock:
        """Wall-clock time."""

    @property
    def emit_interval_ms(self) -> int:
        """Least wall-clock time between two emissions of results that wait for time to pass; 0: no throttle."""

    @property
    def stream_time(self) -> int:
        """Highest timestamp of the records taken by the task so far, -1 before the first."""
