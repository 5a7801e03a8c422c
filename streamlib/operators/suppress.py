"""A suppressed table: holds updates back until time has passed, or until there are too many, and lets the last ones go.

The time that must pass is this operator's own, the largest timestamp it has seen since it started. What is let go has
the timestamp, headers and old value of the last update of its key, and comes in the order of (time, key bytes). Seen as
a table, a suppressed table has for a key that waits the value from before it did, and else that of the table above.

Source: KTableSuppressProcessorSupplier. Next: `state/change_buffer`, where updates wait; `getters`, how joins see it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, repeat
from typing import Any

from streamlib.errors import BufferFullError, ProcessingError, SerdeError
from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import TableGetter
from streamlib.operators.idle import idle_time
from streamlib.operators.table_rows import Row
from streamlib.operators.wiring import Wiring
from streamlib.record import ChangeBatch, RecordBatch, TopicPartition
from streamlib.serdes.base import AnySerde, any_none
from streamlib.state.buffered_rows import NOWHERE, UNKNOWN_OFFSET, Origin
from streamlib.state.change_buffer import KEY, NAME, NEW, OLD, ORIGIN, ChangeBuffer, Entry
from streamlib.topology.nodes import Source
from streamlib.topology.suppress_nodes import TableSuppress
from streamlib.topology.topology import Topology

UNKNOWN_TIMESTAMP = -1
NO_BOUND = 1 << 62
SEVERAL = ""  # no topic's name
_NOT_WAITING: Any = object()


class SuppressOperator:
    """Holds updates back.

    Args:
        node: What to do.
        key_serde: Of the table's keys.
        buffer: Where updates wait.
        topic: The source topic of updates that come from a cache's flush; None when there are several.
        context: Time, errors, and where records come from.
        forward: Where updates go.
    """

    def __init__(
        self,
        node: TableSuppress,
        key_serde: AnySerde,
        buffer: ChangeBuffer[Any],
        topic: str | None,
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._key_serde = key_serde
        self._buffer = buffer
        self._topic = topic
        self._context = context
        self._forward = forward
        self._stream_time = UNKNOWN_TIMESTAMP
        self._idle = idle_time(node.name, context, self._pass_time, node.idle_ms) if node.final else None
        self._bounded = node.records_max is not None or node.bytes_max is not None
        self._records_max = NO_BOUND if node.records_max is None else node.records_max
        self._bytes_max = NO_BOUND if node.bytes_max is None else node.bytes_max
        if node.bytes_max is not None:
            buffer.measure()

    def load(self) -> Iterator[None]:
        """Take what waits from the store, in steps."""
        return self._buffer.loading()

    def init(self) -> None:
        """The same at once, unless it is there; the time begins anew."""
        self._buffer.load()
        self._stream_time = UNKNOWN_TIMESTAMP if self._idle is None else self._idle.init()

    def process(self, batch: RecordBatch) -> None:
        """Put updates in the buffer, and let go those whose time has come or for which there is no room.

        Raises:
            BufferFullError: There is no room, and the buffer is not to emit early.
            SerdeError: A key or value does not fit its serde.
        """
        assert isinstance(batch, ChangeBatch)
        buffer, wait_ms, bounded = self._buffer, self._node.wait_ms, self._bounded
        put, stream_time = buffer.put, self._stream_time
        olds = buffer.encode_many(batch.olds or [None] * len(batch))
        news = buffer.encode_many(batch.values)
        gone: list[Entry] = []
        columns = zip(self._times(batch), self._raws(batch), batch.keys, olds, news, self._origins(batch), strict=True)
        for row, (time, raw, key, old, new, origin) in enumerate(columns):
            put(time, raw, key, old, new, origin)
            stream_time = max(stream_time, origin[0])
            expiry = stream_time - wait_ms
            while buffer.min_time <= expiry:
                self._let_go(gone)
            if bounded:
                self._make_room(gone, batch, row)
        self._stream_time = stream_time
        if self._idle is not None:
            self._idle.seen(stream_time)
        self._emit(gone)

    def _pass_time(self, stream_time: int) -> bool:
        """Let go what has been closed by time alone."""
        self._stream_time = stream_time
        gone: list[Entry] = []
        while self._buffer.min_time <= stream_time - self._node.wait_ms:
            gone.append(self._buffer.evict())
        self._emit(gone)
        return bool(gone)

    def flush(self, rows_max: int | None = None) -> int:
        """Log what has changed in the buffer; returns how many keys are left. Nothing is let go."""
        return self._buffer.log(self._context.clock.time_ms(), rows_max)

    def _times(self, batch: RecordBatch) -> list[int]:
        if not self._node.final:
            return batch.timestamps
        try:
            return [key.end for key in batch.keys]
        except AttributeError as error:
            msg = (
                f"the keys of the table are not windowed any more, so no window closes: node={self._node.name}. "
                "Suppress it before its keys are changed, or use Suppressed.until_time_limit"
            )
            raise ProcessingError(msg) from error

    def _raws(self, batch: RecordBatch) -> list[Any]:
        try:
            return self._key_serde.serialize_many(batch.keys)
        except Exception as error:
            msg = (
                f"the key serde {self._key_serde.name} cannot write a key: {error}: node={self._node.name}. "
                "Give the operation that makes the keys the key_serde that fits."
            )
            raise SerdeError(msg) from error

    def _origins(self, batch: RecordBatch) -> Iterable[Origin]:
        tp = self._tp()
        offsets = repeat(UNKNOWN_OFFSET) if batch.offsets is None else batch.offsets
        headers: Iterable[Any] = repeat(()) if batch.headers is None else batch.headers
        return zip(batch.timestamps, offsets, repeat(tp, len(batch)), headers, strict=False)

    def _tp(self) -> TopicPartition:
        if self._context.tp is not None:
            return self._context.tp
        return NOWHERE if self._topic is None else self._context.inputs.get(self._topic, NOWHERE)

    def _make_room(self, gone: list[Entry], batch: RecordBatch, row: int) -> None:
        """Let the first ones go while the buffer holds too much, or stop."""
        node, buffer = self._node, self._buffer
        while len(buffer) > self._records_max or buffer.size_bytes > self._bytes_max:
            if node.shut_down_when_full:
                self._emit(gone)
                gone.clear()
                self._refuse(batch, row)
                return
            self._let_go(gone)

    def _let_go(self, gone: list[Entry]) -> None:
        """Take the first update out of the buffer; it is passed on with others unless a join reads the table."""
        entry = self._buffer.evict()
        if not self._buffer.is_read:
            gone.append(entry)
            return
        leaving = self._buffer.leaving
        leaving[entry[KEY]] = entry
        try:
            self._emit([entry])
        finally:
            del leaving[entry[KEY]]

    def _refuse(self, batch: RecordBatch, row: int) -> None:
        node, buffer, tp = self._node, self._buffer, self._tp()
        parts = []
        if node.records_max is not None:
            parts.append(f"{len(buffer)} of {node.records_max} records")
        if node.bytes_max is not None:
            parts.append(f"{buffer.size_bytes} of {node.bytes_max} bytes")
        offset = None if batch.offsets is None else batch.offsets[row]
        where = "" if tp == NOWHERE else f" topic={tp.topic} partition={tp.partition}"
        msg = (
            f"the buffer of a suppressed table is full ({', '.join(parts)}), and it must not emit early: "
            f"node={node.name}{where} offset={'unknown' if offset is None else offset}. Nothing after the last commit "
            "counts. Give it a larger bound, or take shut_down_when_full() away from its BufferConfig."
        )
        key, value, timestamp = batch.keys[row], batch.values[row], batch.timestamps[row]
        self._context.errors.failed(BufferFullError(msg), node.name, key, value, timestamp, offset)

    def _emit(self, entries: list[Entry]) -> None:
        """Forward updates, as if their records were at hand."""
        if self._node.final:
            entries = [entry for entry in entries if entry[NEW] is not None]
        if not entries:
            return
        context = self._context
        before = context.tp
        try:
            for tp, knows_offsets, run in _runs(entries):
                context.tp = None if tp == NOWHERE else tp
                self._forward(self._changes(run, knows_offsets=knows_offsets))
        finally:
            context.tp = before

    def _changes(self, entries: list[Entry], *, knows_offsets: bool) -> ChangeBatch:
        buffer = self._buffer
        keys = [entry[NAME] for entry in entries]
        if any_none(keys):  # of entries from before a restart
            keys = self._key_serde.deserialize_many([entry[KEY] for entry in entries])
        origins = [entry[ORIGIN] for entry in entries]
        headers = [origin[3] for origin in origins]
        return ChangeBatch(
            keys,
            buffer.decode_many([entry[NEW] for entry in entries]),
            [origin[0] for origin in origins],
            [origin[1] for origin in origins] if knows_offsets else None,
            headers if any(headers) else None,
            buffer.decode_many([entry[OLD] for entry in entries]),
        )


class SuppressedGetter:
    """Reads a suppressed table.

    Args:
        above: Reads the table above.
        key_serde: Of the keys of both.
        buffer: Where updates wait.
    """

    stored = False
    fetch_as_of = None

    def __init__(self, above: TableGetter, key_serde: AnySerde, buffer: ChangeBuffer[Any]) -> None:
        self._above = above
        self._key_serde = key_serde
        self._buffer = buffer
        buffer.is_read = True

    def fetch(self, keys: list[Any]) -> Sequence[Any]:
        """For each key the value from before it waited, and what the table above has."""
        raws: list[Any] = self._key_serde.serialize_many(keys)
        priors = self._buffer.priors(raws, _NOT_WAITING)
        return list(zip(priors, self._above.fetch(keys), strict=True))

    def compute(self, key: Any, found: Any) -> Row | None:
        """The value from before, whose time nobody knows, or the row of the table above."""
        prior, above = found
        if prior is None:
            return None
        if prior is not _NOT_WAITING:
            return prior, UNKNOWN_TIMESTAMP
        row: Row | None = above if above is None or self._above.stored else self._above.compute(key, above)
        return row


def suppress(node: TableSuppress, wiring: Wiring) -> SuppressOperator:
    """The operator of a suppressed table."""
    buffer, key_serde = _buffer(node, wiring)
    topics = _source_topics(wiring.topology, node.name)
    topic = topics.pop() if len(topics) == 1 and SEVERAL not in topics else None
    return SuppressOperator(node, key_serde, buffer, topic, wiring.context, wiring.forward)


def suppressed_getter(node: TableSuppress, wiring: Wiring) -> SuppressedGetter:
    """How to read a suppressed table."""
    buffer, key_serde = _buffer(node, wiring)
    return SuppressedGetter(wiring.getter(node.parents[0]), key_serde, buffer)


def _buffer(node: TableSuppress, wiring: Wiring) -> tuple[ChangeBuffer[Any], AnySerde]:
    buffer = wiring.stores[node.buffer]
    assert isinstance(buffer, ChangeBuffer)
    return buffer, wiring.topology.stores[node.buffer].key_serde


def _source_topics(topology: Topology, name: str) -> set[str]:
    """The topics that a node's records come from, up to the next repartition topics."""
    node = topology.nodes[name]
    if isinstance(node, Source):
        return {SEVERAL} if node.pattern is not None else set(node.topics)
    return {topic for parent in node.parents for topic in _source_topics(topology, parent)}


def _runs(entries: list[Entry]) -> Iterator[tuple[TopicPartition, bool, list[Entry]]]:
    """Entries that follow each other and come from one topic."""

    def place(entry: Entry) -> tuple[TopicPartition, bool]:
        origin: Origin = entry[ORIGIN]
        return origin[2], origin[1] != UNKNOWN_OFFSET

    for (tp, knows_offsets), run in groupby(entries, place):
        yield tp, knows_offsets, list(run)
