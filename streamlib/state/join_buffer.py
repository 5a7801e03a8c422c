"""The buffer behind a stream-table join with grace: stream records that wait until stream time has left them behind.

A row's key is ``0x00 | time int64 | key | sequence int32``, so that rows lie in the order in which they go; its value
is a `buffered_rows` row without prior, old value and time. Engine and changelog have the same bytes, which are Kafka
Streams' own. Next: `operators/join_table_grace`, which fills and empties it.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice
from struct import Struct

from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.one_table import OneTableStore

PREFIX_BYTES = 9
SEQUENCE_BYTES = 4

_NO_TIME = -1
_MAX_SEQUENCE = 0x7FFFFFFF
_STEP_ROWS = 10_000
_PREFIX = Struct(">bq")
_SEQUENCE = Struct(">i")

Waiting = tuple[bytes, bytes]
"""Key and value of a row that was put earlier."""


class JoinBuffer(OneTableStore):
    """A store of kind ``join_buffer``.

    Args:
        name: The store's name.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.

    Attributes:
        expired: Nothing comes too late for a buffer.
        stream_time: The largest time put so far (ms), -1 before the first. After a restart that of the rows that wait,
            which is the same unless the grace is 0.

    Source: Kafka's ``RocksDBTimeOrderedKeyValueBuffer``.
    """

    _loaded: bool

    def __init__(self, name: str, engine: Engine, changelog: ChangelogWriter | None = None) -> None:
        super().__init__(name, engine)
        self._changelog = changelog
        self._open()

    def load(self) -> None:
        """Take time and sequence from the rows: the store is complete. `loading` may have done it before."""
        for _ in self.loading():
            pass

    def loading(self) -> Iterator[None]:
        """The same in steps."""
        if self._loaded:
            return
        self.stream_time, self._sequence, self._first = _NO_TIME, 0, 0
        rows = self._table.scan(None, None)
        while part := list(islice(rows, _STEP_ROWS)):
            self.stream_time = _PREFIX.unpack_from(part[-1][0])[1]
            found = max(_SEQUENCE.unpack_from(key, len(key) - SEQUENCE_BYTES)[0] for key, _ in part)
            self._sequence = max(self._sequence, found)
            yield
        self._loaded = True

    def exchange(
        self, keys: list[bytes], times: list[int], rows: list[bytes], *, grace_ms: int, now_ms: int
    ) -> list[int | Waiting]:
        """Put records and take out those that need not wait any more, one after the other.

        Args:
            keys: Plain keys.
            times: Timestamps of the records (ms).
            rows: Their rows.
            grace_ms: A record goes once the stream time is later than its own by this. One that comes when it already
                is goes at once, and those that wait keep waiting.
            now_ms: Wall-clock time: the timestamp of the changelog records, since theirs is in their value.

        Returns:
            What goes, in order: the number of a record just given, or a row that was put earlier.
        """
        gone: list[int | Waiting] = []
        fresh: list[tuple[bytes, int]] = []
        logged: list[tuple[bytes, bytes | None]] = []
        stream_time = self.stream_time
        last = max([stream_time, *times]) - grace_ms
        stored = self._stored(last)
        first_stored = next(stored, None)
        for number, (key, time) in enumerate(zip(keys, times, strict=True)):
            if time < stream_time - grace_ms:
                gone.append(number)
                continue
            self._sequence = (self._sequence + 1) & _MAX_SEQUENCE
            row_key = b"".join((_PREFIX.pack(0, time), key, _SEQUENCE.pack(self._sequence)))
            heappush(fresh, (row_key, number))
            logged.append((row_key, rows[number]))
            stream_time = max(stream_time, time)
            end = _start_of(stream_time - grace_ms + 1)
            while True:
                next_fresh = fresh[0][0] if fresh else end
                if first_stored is not None and first_stored[0] < min(next_fresh, end):
                    taken = first_stored[0]
                    gone.append(first_stored)
                    self._table.rows[taken] = None
                    first_stored = next(stored, None)
                elif next_fresh < end:
                    taken, place = heappop(fresh)
                    gone.append(place)
                else:
                    break
                logged.append((taken, None))
        self.stream_time = stream_time
        self._first = max(self._first, last + 1)
        self._table.rows.update((row_key, rows[number]) for row_key, number in fresh)
        if self._changelog is not None and logged:
            log_keys, log_rows = [key for key, _ in logged], [row for _, row in logged]
            self._changelog.append(log_keys, log_rows, [now_ms] * len(logged))
        return gone

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay; `load` reads it."""
        self._loaded = False
        self._table.rows.update(zip(keys, values, strict=True))

    def _open(self) -> None:
        super()._open()
        self._loaded = False
        self.stream_time, self._sequence = _NO_TIME, 0
        self._first = 0  # no row that waits is older

    def _stored(self, last: int) -> Iterator[Waiting]:
        """The rows that wait up to a time, in their order."""
        if last < self._first:
            return iter(())
        return self._table.scan(_start_of(self._first), _start_of(last + 1))


def _start_of(time: int) -> bytes:
    """What the keys of a time begin with; of 0, where there are none before."""
    return _PREFIX.pack(0, max(time, 0))
