"""`StreamJoins`: what a stream can be joined with. Next: `joins` and `join_streams`, the nodes that takes."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from streamlib.dsl.flow import Flow, repartition_step
from streamlib.dsl.graph import Step
from streamlib.dsl.join_streams import StreamJoin, StreamJoined, StreamJoinOptions, join_streams
from streamlib.dsl.joins import Join, join_global_table, join_table
from streamlib.dsl.options import NewValues, ValueOptions
from streamlib.dsl.table import GlobalKTable, KTable
from streamlib.serdes.base import AnySerde
from streamlib.topology.windows import JoinWindows

if TYPE_CHECKING:
    from streamlib.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
VO = TypeVar("VO")
VR = TypeVar("VR")
VT = TypeVar("VT")


class StreamJoins(Generic[K, V]):
    """The joins of a `KStream`, which is the only class made of it.

    A stream is repartitioned for a join if its keys may have changed: once for all its joins without a name.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._repartition: Step | None = None

    @overload
    def join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[V, VT], VR],
        *,
        with_key: Literal[False] = False,
        grace: timedelta | None = None,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[K, V, VT], VR],
        *,
        with_key: Literal[True],
        grace: timedelta | None = None,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        other: GlobalKTable[KR, VT],
        joiner: Callable[[V, VT], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[False] = False,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        other: GlobalKTable[KR, VT],
        joiner: Callable[[K, V, VT], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[True],
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        other: "KStream[K, VO]",
        joiner: Callable[[V, VO], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[False] = False,
        **options: Unpack[StreamJoined[K, V, VO, VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        other: "KStream[K, VO]",
        joiner: Callable[[K, V, VO], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[True],
        **options: Unpack[StreamJoined[K, V, VO, VR]],
    ) -> "KStream[K, VR]": ...
    def join(
        self,
        other: "KStream[K, Any] | KTable[K, Any] | GlobalKTable[Any, Any]",
        joiner: Callable[..., Any],
        windows: JoinWindows | None = None,
        *,
        key_selector: Callable[[K, V], Any] | None = None,
        with_key: bool = False,
        grace: timedelta | None = None,
        **options: Any,
    ) -> "KStream[K, Any]":
        """Each record with what the other side has for its key: ``joiner(value, other value)``.

        With a table that is the current value; only records of the stream make results, not updates of the table. With
        a stream it is each record in the window; records of both streams make results, at the later of both times. A
        record without a match is left out.

        Args:
            other: A stream, this one included, or a table with the same keys (streams are repartitioned first if their
                keys may have changed; both sides need equal partition counts), or a global table.
            joiner: With ``with_key`` it is called with the stream's key first.
            windows: For a stream: how far apart two records may be.
            key_selector: For a global table: ``key_selector(key, value)`` gives the table's key.
            with_key: See ``joiner``.
            grace: For a versioned table, whose history must be as long: records wait until stream time is later than
                theirs by this, so that they meet late updates too. The wait is in a store, ``<name>-Buffer``.
            options: ``name`` (also that of the repartition topic, without ``-repartition``) and ``value_serde``; those
                of `StreamJoined` for a stream.

        Time: A versioned table is looked up as of the record's time, also through filter and map_values.
        State: With a stream, a store for the records of each side.
        """
        if isinstance(other, StreamJoins):
            return self._join_stream(other, joiner, windows, with_key, (False, False), options)
        join = Join(joiner, False, with_key, ValueOptions(**options), grace)
        return self._made(self._join(other, join, key_selector, windows))

    @overload
    def left_join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[V, VT | None], VR],
        *,
        with_key: Literal[False] = False,
        grace: timedelta | None = None,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[K, V, VT | None], VR],
        *,
        with_key: Literal[True],
        grace: timedelta | None = None,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        other: GlobalKTable[KR, VT],
        joiner: Callable[[V, VT | None], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[False] = False,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        other: GlobalKTable[KR, VT],
        joiner: Callable[[K, V, VT | None], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[True],
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        other: "KStream[K, VO]",
        joiner: Callable[[V, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[False] = False,
        **options: Unpack[StreamJoined[K, V, VO, VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        other: "KStream[K, VO]",
        joiner: Callable[[K, V, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[True],
        **options: Unpack[StreamJoined[K, V, VO, VR]],
    ) -> "KStream[K, VR]": ...
    def left_join(
        self,
        other: "KStream[K, Any] | KTable[K, Any] | GlobalKTable[Any, Any]",
        joiner: Callable[..., Any],
        windows: JoinWindows | None = None,
        *,
        key_selector: Callable[[K, V], Any] | None = None,
        with_key: bool = False,
        grace: timedelta | None = None,
        **options: Any,
    ) -> "KStream[K, Any]":
        """Each record with what the other side has for its key, or with None where there is nothing.

        As `join` otherwise; records without a key come out too, but with a grace they are an error, as in Java.

        Time: With a stream, a record without a match comes out once stream time has passed the end of its window and
            the grace; that is looked for every ``emit_interval_ms``. A record that comes late and finds nothing does
            not wait for the grace (KAFKA-19536).
        State: With a stream, one more store for records that wait.
        """
        if isinstance(other, StreamJoins):
            return self._join_stream(other, joiner, windows, with_key, (True, False), options)
        join = Join(joiner, True, with_key, ValueOptions(**options), grace)
        return self._made(self._join(other, join, key_selector, windows))

    @overload
    def outer_join(
        self,
        other: "KStream[K, VO]",
        joiner: Callable[[V | None, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[False] = False,
        **options: Unpack[StreamJoined[K, V, VO, VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def outer_join(
        self,
        other: "KStream[K, VO]",
        joiner: Callable[[K, V | None, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[True],
        **options: Unpack[StreamJoined[K, V, VO, VR]],
    ) -> "KStream[K, VR]": ...
    def outer_join(
        self,
        other: "KStream[K, Any]",
        joiner: Callable[..., Any],
        windows: JoinWindows,
        *,
        with_key: bool = False,
        **options: Any,
    ) -> "KStream[K, Any]":
        """Each record of either stream with those of the other in the window, or with None where there is none.

        As `left_join` otherwise, for both streams. There is no outer join with a table.
        """
        if isinstance(other, StreamJoins):
            return self._join_stream(other, joiner, windows, with_key, (True, True), options)
        msg = f"outer_join is for two streams, got {other!r}: turn a table into a stream, or use left_join"  # type: ignore[unreachable]
        self._flow.graph.problems.append(msg)
        return self._made(self._flow)

    def _made(self, flow: Flow) -> "KStream[K, Any]":
        stream: KStream[K, Any] = self._flow.graph.make_stream(flow)
        return stream

    def _join_stream(
        self,
        other: "StreamJoins[K, Any]",
        joiner: Callable[..., Any],
        windows: JoinWindows | None,
        with_key: bool,
        outer: tuple[bool, bool],
        given: Mapping[str, Any],
    ) -> "KStream[K, Any]":
        graph, options = self._flow.graph, StreamJoinOptions(**given)
        if not isinstance(windows, JoinWindows):
            graph.problems.append(f"a join of two streams needs JoinWindows.of(...) as its windows, got {windows!r}")
            return self._made(self._flow)
        if options.name is not None:
            graph.check_name(options.name, "the name")
        if graph.is_foreign(other._flow.graph, options.name or "join"):
            return self._made(self._flow)
        key_serde = options.key_serde or self._flow.key_serde
        this = self._partitioned(options.suffixed("-left"), key_serde, options.this_value_serde)
        others = other._partitioned(options.suffixed("-right"), key_serde, options.other_value_serde)
        return self._made(join_streams(this, others, StreamJoin(joiner, windows, with_key, outer, options)))

    def _join(
        self,
        table: KTable[K, Any] | GlobalKTable[Any, Any],
        join: Join,
        key_selector: Callable[[K, V], Any] | None,
        windows: JoinWindows | None,
    ) -> Flow:
        if windows is not None:
            self._flow.graph.problems.append("a join with a table has no windows: leave them out")
        if isinstance(table, GlobalKTable):
            return join_global_table(self._flow, table._graph, table._store, join, key_selector)
        if not isinstance(table, KTable):
            msg = f"a stream can be joined with a KStream, a KTable or a GlobalKTable, got {table!r}"  # type: ignore[unreachable]
            self._flow.graph.problems.append(msg)
            return self._flow
        if key_selector is not None:
            self._flow.graph.problems.append("a join with a table is by key: leave out key_selector, use select_key")
        return join_table(self._partitioned(join.options.name), table._flow, join)

    def _partitioned(
        self, name: str | None, key_serde: AnySerde | None = None, value_serde: AnySerde | None = None
    ) -> Flow:
        """The stream, repartitioned if its keys may have changed: once for all joins without a name."""
        flow = self._flow.with_serdes(key_serde, value_serde, "join")
        if not flow.rekeyed:
            return flow
        step = repartition_step(flow, name or flow.step.output)
        if self._repartition is None or name is not None:
            self._repartition = step
            flow.graph.add(step, flow.step)
        return flow.behind(self._repartition)
