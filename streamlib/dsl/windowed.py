"""`TimeWindowedKStream`: a stream grouped by key and window. Next: `table`, what an aggregation makes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar, Unpack

from streamlib.dsl.grouping import Grouping, emitting
from streamlib.dsl.late import LateTo
from streamlib.dsl.options import Materialized, StoreOptions
from streamlib.dsl.table import KTable
from streamlib.error_policies import OnError
from streamlib.record import Windowed
from streamlib.serdes.base import Serde
from streamlib.serdes.windowed import time_windowed_ms
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import EmitStrategy, FixedWindows, UnlimitedWindows

K = TypeVar("K")
V = TypeVar("V")
VR = TypeVar("VR")


class TimeWindowedKStream(Generic[K, V]):
    """A stream grouped by key and by tumbling, hopping, sliding or unlimited windows; see `KGroupedStream.windowed_by`.

    Each aggregation makes a window store and its changelog. A record goes into every window that contains its
    timestamp and is not closed yet; records for closed windows are dropped and counted. Null keys are dropped and
    counted, and so are null values with sliding windows, but not with others.

    With ``late_to`` an aggregation also passes on each record it drops as late, once for each window it has missed: to
    a topic, or to a function that is given the stream of them. Key, value, timestamp and headers are the record's own;
    the headers ``streamlib.late.window.start``, ``streamlib.late.window.end`` and ``streamlib.late.stream.time`` come
    behind them, numbers in ms as ASCII text. After a restart a record that the store would drop as expired is late too.
    """

    def __init__(
        self,
        grouping: Grouping,
        windows: FixedWindows,
        emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE,
        *,
        idle_ms: int | None = None,
    ) -> None:
        self._grouping = grouping
        self._windows = windows
        self._emit = emit
        self._idle_ms = idle_ms

    def emit_strategy(self, emit: EmitStrategy) -> "TimeWindowedKStream[K, V]":
        """The same, with aggregations that pass their results on at such times; use what is returned.

        With ``EmitStrategy.ON_WINDOW_CLOSE`` each window has one result: its last one, with the headers of the record
        that closed it, in the order of time, then of keys. Nothing closes while no records come. Results are looked for
        every ``emit_interval_ms`` (1 s unless configured) of wall-clock time. They are read from the store, so a single
        record with which stream time passes the whole retention loses the windows that it closes, unless they are in
        the write cache: give the table a longer ``retention`` where the input has gaps and no cache is used.

        Source: TimeWindowedKStream.emitStrategy (KIP-825).
        """
        if not isinstance(emit, EmitStrategy):
            msg = f"emit_strategy needs EmitStrategy.ON_WINDOW_UPDATE or ON_WINDOW_CLOSE, got {emit!r}"  # type: ignore[unreachable]
            self._grouping.flow.graph.problems.append(msg)
        elif emit is EmitStrategy.ON_WINDOW_CLOSE and isinstance(self._windows, UnlimitedWindows):
            self._grouping.flow.graph.problems.append(
                "unlimited windows never close, so they cannot emit on window close: leave out emit_strategy"
            )
        else:
            return TimeWindowedKStream(self._grouping, self._windows, emit, idle_ms=self._idle_ms)
        return self

    def count(
        self,
        *,
        name: str | None = None,
        late_to: "LateTo[K, V] | None" = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], int]:
        """How many records each key has in each window.

        Source: TimeWindowedKStream.count.
        """
        options = StoreOptions(**materialized)
        spec = self._grouping.count_store(options, self._windows)
        node_name = self._grouping.flow.graph.name(name, "KSTREAM-AGGREGATE-")
        node = WindowAggregate(name=node_name, windows=self._windows, emit=self._emit, kind="count", store=spec.name)
        return self._aggregate(node, spec, options, late_to)

    def reduce(
        self,
        reducer: Callable[[V, V], V],
        *,
        name: str | None = None,
        value_serde: Serde[V] | None = None,
        late_to: "LateTo[K, V] | None" = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], V]:
        """The values of each key and window combined: ``reducer(aggregate, value)``, beginning with the first value.

        Source: TimeWindowedKStream.reduce.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.graph.serde(value_serde, flow.value_serde, f'"{name or "reduce"}"')
        spec = self._grouping.store(options, "KSTREAM-REDUCE-", serde, self._windows)
        node = WindowAggregate(
            name=flow.graph.name(name, "KSTREAM-REDUCE-"),
            windows=self._windows,
            emit=self._emit,
            kind="reduce",
            store=spec.name,
            aggregator=reducer,
            on_error=on_error,
        )
        return self._aggregate(node, spec, options, late_to)

    def aggregate(
        self,
        initializer: Callable[[], VR],
        aggregator: Callable[[K, V, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        late_to: "LateTo[K, V] | None" = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], VR]:
        """An aggregate for each key and window: ``aggregator(key, value, aggregate)``.

        The first aggregate is made of ``initializer()``. Source: TimeWindowedKStream.aggregate.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.new_value_serde(value_serde, name or "aggregate")
        spec = self._grouping.store(options, "KSTREAM-AGGREGATE-", serde, self._windows)
        node = WindowAggregate(
            name=flow.graph.name(name, "KSTREAM-AGGREGATE-"),
            windows=self._windows,
            emit=self._emit,
            kind="aggregate",
            store=spec.name,
            initializer=initializer,
            aggregator=aggregator,
            on_error=on_error,
        )
        return self._aggregate(node, spec, options, late_to)

    def _aggregate(
        self, node: WindowAggregate, spec: StoreSpec, options: StoreOptions, late_to: "LateTo[K, V] | None"
    ) -> KTable[Windowed[K], Any]:
        node = replace(node, idle_ms=self._idle_ms)
        flow = self._grouping.aggregate(node, emitting(spec, self._windows, self._emit), late_to)
        key_serde = time_windowed_ms(flow.key_serde, self._windows.size_ms)
        return KTable(flow.after(flow.step, key_serde=key_serde), options.store_name)
