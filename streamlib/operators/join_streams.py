"""Two streams meet: each record with those of the other stream in the window around it.

Each side has two operators: `JoinWindowOperator` passes a batch to the join and then keeps it, so a record never meets
itself; `StreamStreamJoinOperator` looks into what the other side keeps. In a left or outer join a record without a
match waits in a store that both sides share, until a match comes or its time is over. That is looked for at records
that move the time on; what is found comes out before their own matches.

A record that is behind in time and finds no match comes out at once when only the grace, and not the window, is open
(KAFKA-19536), so it may come out a second time with a match.

Source: KStreamJoinWindow, KStreamKStreamJoin. Next: `join_in_turns`, which feeds both sides at once;
`state/join_window` and `state/unmatched`, what is kept.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.idle import IdleTime, idle_time
from streamlib.operators.late import LateRecords, late_records
from streamlib.operators.wiring import Wiring
from streamlib.record import Headers, RecordBatch
from streamlib.serdes.base import AnySerde, any_none
from streamlib.state.join_window import JoinWindowStore
from streamlib.state.recent_rows import Match
from streamlib.state.unmatched import LEFT, RIGHT, UnmatchedStore, split_unmatched_key, values_of
from streamlib.topology.stream_join_nodes import JoinWindow, StreamStreamJoin
from streamlib.topology.windows import JoinWindows

LOOKED_AT_ROWS = 10_000
"""So many waiting records are looked at beyond those whose time is over, to know when the next one's is."""

Pair = Callable[[Any, Any, Any], Any]
"""Key, this side's value and the other side's to the result."""


class KeyedBatch(RecordBatch):
    """A batch with the serialized keys, None for no key.

    Attributes:
        raw_keys: As the stores of both sides have them.
    """

    __slots__ = ("raw_keys",)

    def __init__(self, batch: RecordBatch, raw_keys: list[bytes | None]) -> None:
        super().__init__(batch.keys, batch.values, batch.timestamps, batch.offsets, batch.headers)
        self.raw_keys = raw_keys


class JoinWindowOperator:
    """Keeps one side's records, after the join has seen them.

    Args:
        store: Where they are kept.
        key_serde: Of both sides' keys.
        forward: To the join.
        late: Takes records that come too late to be kept, and the windows they have missed; None: they are only
            counted.
    """

    def __init__(
        self,
        store: JoinWindowStore[Any],
        key_serde: AnySerde,
        forward: Forward,
        late: tuple[LateRecords, JoinWindows] | None = None,
    ) -> None:
        self._store = store
        self._key_serde = key_serde
        self._forward = forward
        self._late = late
        self._catch: Callable[[KeyedBatch], None] | None = None

    def load(self) -> Iterator[None]:
        """Take what the store has into memory, in steps."""
        return self._store.reading_ahead()

    def init(self) -> None:
        """The same at once, unless it is there."""
        self._store.read_ahead()

    def process(self, batch: RecordBatch) -> None:
        """Pass all records on, then keep those with a key."""
        raws: list[Any] = self._key_serde.serialize_many(batch.keys)
        if self._catch is None:
            self.take(KeyedBatch(batch, raws))
        else:
            self._catch(KeyedBatch(batch, raws))

    @contextmanager
    def caught(self, catch: Callable[[KeyedBatch], None]) -> Iterator[None]:
        """Give batches to ``catch``, to `take` them later."""
        self._catch = catch
        try:
            yield
        finally:
            self._catch = None

    def stage(self, batch: KeyedBatch) -> JoinWindowStore[Any]:
        """Log numbered records that all have a key; gives the store, which is then to put them."""
        keys = cast("list[bytes]", batch.raw_keys)
        self._store.stage(keys, batch.values, batch.timestamps, batch.headers, batch.offsets)
        return self._store

    def take(self, batch: KeyedBatch) -> None:
        """The same once the keys are serialized."""
        raws: list[Any] = batch.raw_keys
        self._forward(batch)
        values, timestamps, headers = batch.values, batch.timestamps, batch.headers
        if self._late is not None:
            self._keep_or_pass_on(batch, raws, *self._late)
            return
        if any_none(raws):
            rows = [row for row, raw in enumerate(raws) if raw is not None]
            raws, values = [raws[row] for row in rows], [values[row] for row in rows]
            timestamps = [timestamps[row] for row in rows]
            headers = None if headers is None else [headers[row] for row in rows]
        if raws:
            self._store.put_many(raws, values, timestamps, headers)

    def _keep_or_pass_on(
        self, batch: RecordBatch, raws: list[bytes | None], late: LateRecords, windows: JoinWindows
    ) -> None:
        """Keep records one by one: only the store knows which of them come too late."""
        store = self._store
        for row, raw in enumerate(raws):
            if raw is None:
                continue
            timestamp, expired = batch.timestamps[row], store.expired
            headers = None if batch.headers is None else [batch.headers[row]]
            store.put_many([raw], [batch.values[row]], [timestamp], headers)
            if store.expired > expired:
                start, end = max(0, timestamp - windows.before_ms), timestamp + windows.after_ms
                late.add(row, start, end, store.highest_timestamp)
        late.send(batch)


class Results:
    """Results as columns, with the row of the batch that each comes from."""

    __slots__ = ("keys", "rows", "timestamps", "values")

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.values: list[Any] = []
        self.timestamps: list[int] = []
        self.rows: list[int] = []

    def add(self, key: Any, value: Any, timestamp: int, row: int) -> None:
        """One more."""
        self.keys.append(key)
        self.values.append(value)
        self.timestamps.append(timestamp)
        self.rows.append(row)

    def batch(self, cause: RecordBatch) -> RecordBatch:
        """All, with offsets and headers of the rows that they come from."""
        offsets: list[int] | None = None
        headers: list[Headers] | None = None
        if cause.offsets is not None:
            offsets = [cause.offsets[row] for row in self.rows]
        if cause.headers is not None:
            headers = [cause.headers[row] for row in self.rows]
        return RecordBatch(self.keys, self.values, self.timestamps, offsets, headers)


class StreamStreamJoinOperator:
    """Joins one side's records.

    Args:
        node: What to do.
        stores: What this side keeps (it is not read, but knows how), what the other side keeps, and what waits for a
            match: None for an inner join.
        serdes: Of both sides' keys, and of this side's values.
        context: Errors, counters, the wall clock.
        forward: Where results go.

    Attributes:
        waits: Whether records without a match matter: not in an inner join.
        other: What the other side keeps.
        pair: The joiner.
    """

    def __init__(
        self,
        node: StreamStreamJoin,
        stores: tuple[JoinWindowStore[Any], JoinWindowStore[Any], UnmatchedStore | None],
        serdes: tuple[AnySerde, AnySerde],
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        windows = node.windows
        self._node = node
        self._this, self.other, self._unmatched = stores
        self.waits = self._unmatched is not None
        self._key_serde, self._value_serde = serdes
        self._context = context
        self._forward = forward
        self.pair = _pair(node)
        self._side, self._other_side = (LEFT, RIGHT) if node.left else (RIGHT, LEFT)
        before_ms, after_ms = windows.before_ms, windows.after_ms
        self._before_ms, self._after_ms = (before_ms, after_ms) if node.left else (after_ms, before_ms)
        # How long a record of each side waits, by its side byte.
        self._waits_ms = {LEFT: after_ms + windows.grace_ms, RIGHT: before_ms + windows.grace_ms}
        self._idle: IdleTime | None = None
        if self._unmatched is not None and node.left:  # one side is enough to look for what both sides hold
            self._idle = idle_time(node.name, context, self._pass_time, node.idle_ms)

    def init(self) -> None:
        """Take from the stores what both sides know about time; Java begins at -1 again."""
        if self._unmatched is not None:
            self._unmatched.resume(max(self._this.highest_timestamp, self.other.highest_timestamp))
            if self._idle is not None:
                self._unmatched.time.idle = self._idle
                self._move_on(self._idle.init())

    def process(self, batch: RecordBatch) -> None:
        """Join each record; those without key or value cannot be and are counted, unless they come out alone."""
        assert isinstance(batch, KeyedBatch), f"{self._node.name} must be fed by the node that keeps its records"
        results = Results()
        self.join(batch, range(len(batch)), self.matches(batch), results)
        self.finish(batch, results)

    def matches(self, batch: KeyedBatch, numbers: list[int] | None = None) -> list[list[Match]]:
        """For each row what the other side keeps in its window; of staged records those with lower numbers."""
        return self.other.matches(batch.raw_keys, batch.timestamps, self._before_ms, self._after_ms, numbers)

    def join(self, batch: KeyedBatch, rows: Iterable[int], matches: list[list[Match]], results: Results) -> None:
        """Add the results of some rows of this side, in order.

        Args:
            batch: The rows.
            rows: Which of them.
            matches: Of each row of the batch.
            results: To add to.
        """
        if self._unmatched is None:
            join_all((self, self), len(batch), batch, rows, matches, results)
        else:
            self._join_or_wait(batch, rows, matches, results, self._unmatched)

    def finish(self, batch: KeyedBatch, results: Results) -> None:
        """Log what waits and forward the results, once all rows of a batch were joined."""
        if self._unmatched is not None:
            self._unmatched.log()
            join_time = self._unmatched.time
            if join_time.idle is not None and join_time.stream_time >= 0:
                join_time.idle.seen(join_time.stream_time)
        if results.rows:
            self._forward(results.batch(batch))

    def _pass_time(self, stream_time: int) -> bool:
        """Pass on what has found no match until now, when no records have come for long; whether there was any."""
        assert self._unmatched is not None
        self._move_on(stream_time)
        results, cause = Results(), KeyedBatch(RecordBatch([None], [None], [stream_time]), [None])
        self._give_up(cause, 0, results, self._context.clock.time_ms())
        self._unmatched.log()
        if results.rows:
            self._forward(results.batch(cause))
        return bool(results.rows)

    def _move_on(self, stream_time: int) -> None:
        """It is as late as this for both sides."""
        assert self._unmatched is not None
        join_time = self._unmatched.time
        join_time.stream_time = max(join_time.stream_time, stream_time)
        self._this.move_on(stream_time)
        self.other.move_on(stream_time)

    def _join_or_wait(
        self,
        batch: KeyedBatch,
        rows: Iterable[int],
        matches: list[list[Match]],
        results: Results,
        unmatched: UnmatchedStore,
    ) -> None:
        """The left and outer joins."""
        keys, values, raws, timestamps = batch.keys, batch.values, batch.raw_keys, batch.timestamps
        outer, after_ms, pair, add = self._node.outer, self._after_ms, self.pair, results.add
        wait_ms, join_time = self._waits_ms[self._side], unmatched.time
        now_ms = self._context.clock.time_ms()
        incomplete = []
        for row in rows:
            key, value, raw, time, found = keys[row], values[row], raws[row], timestamps[row], matches[row]
            if time > join_time.stream_time:
                join_time.stream_time = time
            try:
                if raw is None or value is None:
                    if outer and raw is None and value is not None:
                        add(key, pair(key, value, None), time, row)
                    else:
                        incomplete.append(row)
                    continue
                if (
                    time == join_time.stream_time
                    and now_ms >= join_time.next_look_ms
                    and join_time.may_be_over(wait_ms)
                ):
                    self._give_up(batch, row, results, now_ms)
                if found:
                    self._meet(batch, row, found, results)
                elif outer:
                    if max(0, time + after_ms) < join_time.stream_time:
                        add(key, pair(key, value, None), time, row)
                    else:
                        unmatched.add(time, self._side, raw, self._value_serde.serialize(value))
            except Exception as error:
                self.failed(error, batch, row)
        if incomplete:
            self.count_incomplete(batch, incomplete)

    def _meet(self, batch: KeyedBatch, row: int, found: list[tuple[int, bytes]], results: Results) -> None:
        """Results for all matches of one record; those that have waited wait no more."""
        assert self._unmatched is not None
        key, value, raw, time = batch.keys[row], batch.values[row], batch.raw_keys[row], batch.timestamps[row]
        assert raw is not None
        matched, value_of, pair = self._unmatched.matched, self.other.value, self.pair
        for other_time, other in found:
            matched(other_time, self._other_side, raw, time)
            results.add(key, pair(key, value, value_of(other)), max(time, other_time), row)

    def _give_up(self, batch: KeyedBatch, row: int, results: Results, now_ms: int) -> None:
        """Results for the records whose time is over; none has waited less than any that stays."""
        unmatched = self._unmatched
        assert unmatched is not None
        join_time = unmatched.time
        join_time.next_look_ms = now_ms + self._context.emit_interval_ms
        join_time.min_time = None
        stream_time, waits_ms = join_time.stream_time, self._waits_ms
        shortest_wait_ms = min(waits_ms.values())
        waiting_sides: set[int] = set()
        beyond = 0
        for store_key, values in unmatched.rows():
            time, side, raw = split_unmatched_key(store_key)
            join_time.min_time = time
            if len(waiting_sides) == len(waits_ms):
                return
            if time + waits_ms[side] >= stream_time:
                waiting_sides.add(side)
                if time + shortest_wait_ms >= stream_time:
                    beyond += 1
                    if beyond > LOOKED_AT_ROWS:
                        return
                continue
            for value in values_of(values):
                self._give_up_one(raw, side, value, time, results, batch, row)
            unmatched.remove(store_key, batch.timestamps[row])

    def _give_up_one(
        self, raw: bytes, side: int, value: bytes, time: int, results: Results, batch: KeyedBatch, row: int
    ) -> None:
        """The result for a record that has found no match; headers and offset are those of the record that came now."""
        this = side == self._side
        key, mine, others = self._key_serde.deserialize(raw), None, None
        if this:
            mine = self._this.value(value)
        else:
            others = self.other.value(value)
        try:
            results.add(key, self.pair(key, mine, others), time, row)
        except Exception as error:
            offset = None if batch.offsets is None else batch.offsets[row]
            self._context.errors.failed(error, self._node.name, key, mine if this else others, time, offset)

    def failed(self, error: Exception, batch: KeyedBatch, row: int) -> None:
        """Ask the policy about a row of which the joiner, or the other side's value, made an error."""
        offset = None if batch.offsets is None else batch.offsets[row]
        self._context.errors.failed(
            error, self._node.name, batch.keys[row], batch.values[row], batch.timestamps[row], offset
        )

    def count_incomplete(self, batch: KeyedBatch, rows: list[int]) -> None:
        """Count rows without key or value."""
        no_key = sum(batch.raw_keys[row] is None for row in rows)
        if no_key:
            self._context.metrics.dropped(self._node.name, "null-key", no_key)
        if len(rows) > no_key:
            self._context.metrics.dropped(self._node.name, "null-value", len(rows) - no_key)


def join_all(
    sides: tuple[StreamStreamJoinOperator, StreamStreamJoinOperator],
    second_from: int,
    batch: KeyedBatch,
    rows: Iterable[int],
    matches: list[list[Match]],
    results: Results,
) -> None:
    """Add the results of some rows of an inner join, in order; its sides may take turns.

    Args:
        sides: That of the batch's first rows, and that of the others.
        second_from: Where those begin.
        batch: The rows.
        rows: Which of them.
        matches: Of each row of the batch.
        results: To add to.
    """
    keys, values, raws, timestamps = batch.keys, batch.values, batch.raw_keys, batch.timestamps
    first, second = sides
    add = results.add
    incomplete: list[int] = []
    for row in rows:
        value = values[row]
        if value is None or raws[row] is None:
            incomplete.append(row)
        elif found := matches[row]:
            side = first if row < second_from else second
            key, time, pair, value_of = keys[row], timestamps[row], side.pair, side.other.value
            try:
                for other_time, other in found:
                    joined = pair(key, value, value_of(other))
                    add(key, joined, time if time > other_time else other_time, row)
            except Exception as error:
                side.failed(error, batch, row)
    if incomplete:
        incomplete.sort()
        cut = bisect_left(incomplete, second_from)
        for side, some in zip(sides, (incomplete[:cut], incomplete[cut:]), strict=True):
            if some:
                side.count_incomplete(batch, some)


def _pair(node: StreamStreamJoin) -> Pair:
    joiner = node.joiner
    if node.with_key:
        return joiner if node.left else lambda key, this, other: joiner(key, other, this)
    if node.left:
        return lambda _key, this, other: joiner(this, other)
    return lambda _key, this, other: joiner(other, this)


def join_window(node: JoinWindow, wiring: Wiring) -> JoinWindowOperator:
    """The operator that keeps one side's records."""
    store = cast("JoinWindowStore[Any]", wiring.stores[node.store])
    records = late_records(node, wiring)
    late = None if records is None or node.windows is None else (records, node.windows)
    return JoinWindowOperator(store, wiring.topology.stores[node.store].key_serde, wiring.forward, late)


def stream_stream_join(node: StreamStreamJoin, wiring: Wiring) -> StreamStreamJoinOperator:
    """The operator of one side of a join."""
    this, other = (cast("JoinWindowStore[Any]", wiring.stores[name]) for name in (node.this_store, node.other_store))
    unmatched = None
    if node.unmatched_store is not None:
        unmatched = cast("UnmatchedStore", wiring.stores[node.unmatched_store])
    spec = wiring.topology.stores[node.this_store]
    return StreamStreamJoinOperator(
        node, (this, other, unmatched), (spec.key_serde, spec.value_serde), wiring.context, wiring.forward
    )
