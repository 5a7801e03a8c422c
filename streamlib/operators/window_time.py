"""The stream time of one windowed aggregation, and what goes by it: final results, and closing without records.

Next: `window_aggregate`, `sliding_aggregate` and `session_aggregate`, which have one each.
"""

from collections.abc import Callable

from streamlib.operators.base import OperatorContext
from streamlib.operators.emit import FinalEmitter
from streamlib.operators.idle import idle_time
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.session_nodes import SessionAggregate


class WindowTime:
    """The largest timestamp an operator has seen since it started.

    Args:
        node: The operator's node.
        context: The wall clock, and where times are kept.
        emitter: Passes results on when they are final; None where updates do.
        store_time: Gives the time of the store, for an operator that must call late whatever its store would drop.

    Attributes:
        stream_time: In ms, -1 before the first record; the operator moves it on.
    """

    def __init__(
        self,
        node: WindowAggregate | SessionAggregate,
        context: OperatorContext,
        emitter: FinalEmitter | None,
        store_time: Callable[[], int] | None,
    ) -> None:
        self.stream_time = -1
        self._emitter = emitter
        self._store_time = store_time
        self._idle = idle_time(node.name, context, self._pass, node.idle_ms)

    def init(self) -> None:
        """Begin anew: no earlier than the store, where its time counts, nor than the time that was closed by."""
        self.stream_time = -1 if self._store_time is None else self._store_time()
        if self._emitter is not None:
            self._emitter.init()
        if self._idle is not None:
            self.stream_time = max(self.stream_time, self._idle.init())
            if self._emitter is not None:
                self._emitter.resume(self.stream_time)

    def seen(self) -> None:
        """Records came."""
        if self._idle is not None:
            self._idle.seen(self.stream_time)

    def _pass(self, stream_time: int) -> bool:
        self.stream_time = stream_time
        return self._emitter is not None and self._emitter.advance(stream_time)
