"""The store of one side of a stream-stream join: every record for as long as it can be joined, none replaces another.

A row is the plain value under ``key | timestamp int64 | sequence int32``; the sequence tells records of one key and
time apart and goes on after a restart. Next: `recent_rows`, where most probes find what they want; `unmatched`, the
records that found no match.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from struct import Struct
from typing import Generic, TypeVar

from streamlib.errors import DeserializationError
from streamlib.record import Headers
from streamlib.serdes.base import Serde, any_none
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.recent_rows import NO_MATCHES, Match, RecentRows
from streamlib.state.segments import MAX_TIME, Segments
from streamlib.state.spec import StoreSpec
from streamlib.state.table import StateTable
from streamlib.state.timestamped import TimestampedRows
from streamlib.state.window import SUFFIX_BYTES, window_starts

V = TypeVar("V")

NO_TIMESTAMP = -1

_SUFFIX = Struct(">qi")
_NOTE = Struct(">iq")  # beside the segments' time: the sequence, and the time of all records, null values included
_MAX_SEQUENCE = 0x7FFFFFFF
_STEP_ROWS = 2_000

_Staged = tuple[list[bytes], list[bytes], list[bytes | None], list[int]]
"""Plain keys, store keys, rows and times."""


class JoinWindowStore(Generic[V]):
    """Rows by key and time, several for each.

    Args:
        spec: What it is; rows are readable while they are later than the store's stream time minus the retention, and
            the window size is the longest span of time that is asked for.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        memory_bytes: For rows in memory, over those that wait for the next commit.

    Attributes:
        expired: How many rows were put too late to be kept.

    Source: Kafka's ``RocksDBWindowStore`` and ``InMemoryWindowStore`` with ``retainDuplicates``.
    """

    _sequence: int
    _highest: int
    _is_ahead: bool  # nothing is left to read ahead
    _newest: int  # highest time of the rows that are to be seen, with those that only move the time
    _live_from: int
    _staged: _Staged | None
    _shown: int  # so many of the staged rows are to be seen
    _written: int  # so many of them are in the segments

    def __init__(
        self, spec: StoreSpec, engine: Engine, changelog: ChangelogWriter | None = None, *, memory_bytes: int = 0
    ) -> None:
        assert spec.window_size_ms is not None, f"store {spec.name!r} has no window size"
        self.expired = 0
        self._name = spec.name
        self._serde: Serde[V] = spec.value_serde
        self._changelog = changelog
        self._format = TimestampedRows(spec.name, self._serde)
        self._retention_ms = spec.retention_ms
        self._exact_expiry = spec.exact_expiry
        self._segments = Segments(
            spec.name, engine, window_starts, retention_ms=spec.retention_ms, exact_expiry=spec.exact_expiry
        )
        self._recent = RecentRows(spec.window_size_ms, memory_bytes)
        self._begin()

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def highest_timestamp(self) -> int:
        """Of all records put, those without a value included; -1 before the first. It survives a restart."""
        return self._highest

    def matches(
        self, keys: Sequence[bytes | None], timestamps: list[int], before_ms: int, after_ms: int
    ) -> list[list[Match]]:
        """For each serialized key and time the rows of that key in ``[time - before_ms, time + after_ms]``.

        In the order of time, then of arrival; none for no key. Look at them before the next put.
        """
        live_from, complete_from, find = self._live_from, self._recent.complete_from, self._recent.find
        found: list[list[Match]] = []
        add = found.append
        deeper: list[tuple[int, bytes, int, int]] = []
        for key, time in zip(keys, timestamps, strict=True):
            first, last = time - before_ms, time + after_ms
            if first < live_from:
                first = live_from
            if last < 0:
                last = 0
            if key is None or last < first:
                add(NO_MATCHES)
            elif first >= complete_from:
                add(find(key, first, last))
            else:
                deeper.append((len(found), key, first, last))
                add(NO_MATCHES)
        if deeper:
            self._write_shown()
            self._look_deeper(found, deeper)
        return found

    def value(self, row: bytes) -> V:
        """The value of a row.

        Raises:
            DeserializationError: The value serde refuses it.
        """
        try:
            return self._serde.deserialize(row)
        except Exception as error:
            msg = (
                f"store {self._name!r}: the row {row[:32]!r} is refused by its value serde {self._serde.name}: {error};"
                " a join whose value type changed needs a new store name, or a reset of the application"
            )
            raise DeserializationError(msg) from error

    def put_many(
        self, keys: list[bytes], values: list[V | None], timestamps: list[int], headers: Sequence[Headers] | None = None
    ) -> None:
        """Add rows and log them, in order; a None is logged and takes a number, but it is no row.

        Args:
            keys: Serialized keys.
            values: A row each.
            timestamps: Their times (ms).
            headers: Those of the changelog records.

        Raises:
            SerdeError: The value serde refuses a value; nothing was written.
        """
        self.stage(keys, values, timestamps, headers)
        self.settle()

    def stage(
        self, keys: list[bytes], values: list[V | None], timestamps: list[int], headers: Sequence[Headers] | None = None
    ) -> None:
        """Log rows that are put one after the other by `show`, and at last by `settle`. Takes and raises as `put_many`.

        What is between needs fewer steps for each row than many calls of `put_many`, and gives the same.
        """
        assert self._staged is None, f"store {self._name!r}: settle() comes before the next stage()"
        rows = self._format.encode_many(keys, values)
        store_keys = []
        sequence, pack = self._sequence, _SUFFIX.pack
        for key, timestamp in zip(keys, timestamps, strict=True):
            sequence = (sequence + 1) & _MAX_SEQUENCE
            store_keys.append(key + pack(timestamp, sequence))
        self._sequence, self._highest = sequence, max(self._highest, max(timestamps))
        if self._changelog is not None:
            self._changelog.append(store_keys, rows, timestamps, headers)
        self._staged = keys, store_keys, rows, timestamps
        self._shown = self._written = 0

    def show(self, count: int) -> None:
        """Let `matches` find the next ``count`` staged rows."""
        assert self._staged is not None, f"store {self._name!r}: nothing is staged"
        first, last = self._shown, self._shown + count
        keys, _, rows, timestamps = self._staged
        for number in range(first, last):
            if timestamps[number] > self._newest and (rows[number] is not None or self._exact_expiry):
                self._newest = timestamps[number]
                self._live_from = max(0, self._newest - self._retention_ms + 1)
        self._recent.insert(keys[first:last], rows[first:last], timestamps[first:last], self._live_from)
        self._shown = last

    def settle(self) -> None:
        """Put what is left of the staged rows."""
        assert self._staged is not None, f"store {self._name!r}: nothing is staged"
        first = self._shown
        keys, _, rows, timestamps = self._staged
        self._shown = len(keys)
        self._write_shown()
        self._staged = None
        if first:
            keys, rows, timestamps = keys[first:], rows[first:], timestamps[first:]
        self._recent.add(keys, rows, timestamps, self._live_from)

    def _write_shown(self) -> None:
        """Write those staged rows to their segments that are to be seen already."""
        if self._staged is None or self._written == self._shown:
            return
        _, store_keys, rows, timestamps = self._staged
        first, last, self._written = self._written, self._shown, self._shown
        if last - first < len(rows):
            store_keys, rows, timestamps = store_keys[first:last], rows[first:last], timestamps[first:last]
        self.expired += self._put(store_keys, rows, timestamps)

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Rows with ``start <= store key < end`` as (store key, value, -1), as of this moment.

        Segments come in the order of time, the rows of each in the order of their store keys.
        """
        rows = self._segments.scan(0, MAX_TIME, start, end, reverse=reverse)
        return ((store_key, self.value(row), NO_TIMESTAMP) for store_key, row in rows)

    def move_on(self, stream_time: int) -> None:
        """It is as late as this (ms), though no record says so: rows expire."""
        if stream_time > self._segments.observed_stream_time:
            self._highest = max(self._highest, stream_time)
            self._segments.advance(stream_time)
            self._note_time()

    def read_ahead(self) -> None:
        """Take the engine's rows into memory if they fit; without that they are looked up there until they expire."""
        for _ in self.reading_ahead():
            pass

    def reading_ahead(self) -> Iterator[None]:
        """The same in steps; no row may be put before the last. Nothing is left to do when this was done before."""
        segments, recent = self._segments, self._recent
        if self._is_ahead or recent.complete_from <= segments.live_from:
            return
        rows = segments.scan(0, MAX_TIME, None, None)
        parts = []
        left = recent.rows_max
        while left >= 0 and (part := list(islice(rows, _STEP_ROWS))):
            parts.append(part)
            left -= len(part)
            yield
        self._is_ahead = True
        if left < 0:
            return
        recent.forget(complete_from=0)
        for part in parts:
            store_keys = [key for key, _ in part]
            plain = [key[:-SUFFIX_BYTES] for key in store_keys]
            recent.add(plain, [row for _, row in part], window_starts(store_keys), segments.live_from)
            yield

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging or counting them."""
        if keys:
            times = window_starts(keys)
            self._sequence = _SUFFIX.unpack_from(keys[-1], len(keys[-1]) - SUFFIX_BYTES)[1]
            self._highest = max(self._highest, max(times))
            self._put(keys, values, times)
            self._recent.add([key[:-SUFFIX_BYTES] for key in keys], values, times, self._live_from)

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done."""
        self._segments.note = _NOTE.pack(self._sequence, self._highest)
        return self._segments.pending()

    def applied(self) -> None:
        """The rows of `pending` are in the engine: expired segments are dropped there."""
        self._segments.applied()

    def discard(self) -> None:
        """Forget everything the engine does not have, the stream time included."""
        self._segments.discard()
        self._begin()

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return self._segments.pending_rows

    def _begin(self) -> None:
        """Count on from what the engine has; its rows are not in memory, later ones will be."""
        note = self._segments.note
        self._sequence, self._highest = _NOTE.unpack(note) if note else (0, -1)
        self._recent.forget(complete_from=self._segments.observed_stream_time + 1)
        self._staged = None
        self._is_ahead = False
        self._note_time()

    def _note_time(self) -> None:
        self._newest, self._live_from = self._segments.observed_stream_time, self._segments.live_from

    def _put(self, store_keys: list[bytes], rows: list[bytes | None], timestamps: list[int]) -> int:
        """Write rows to their segments; gives how many had expired."""
        if not any_none(rows):
            expired = self._segments.put_at(store_keys, rows, timestamps)
        elif self._exact_expiry:
            expired = self._put_one_by_one(store_keys, rows, timestamps)
        else:
            kept = [number for number, row in enumerate(rows) if row is not None]
            expired = self._segments.put_at(
                [store_keys[number] for number in kept],
                [rows[number] for number in kept],
                [timestamps[number] for number in kept],
            )
        self._note_time()
        return expired

    def _put_one_by_one(self, store_keys: list[bytes], rows: list[bytes | None], timestamps: list[int]) -> int:
        """The same where one without a value moves the time and can be late, but is not kept."""
        segments, expired = self._segments, 0
        for store_key, row, timestamp in zip(store_keys, rows, timestamps, strict=True):
            if row is not None:
                expired += segments.put_at([store_key], [row], [timestamp])
                continue
            if timestamp > segments.observed_stream_time:
                segments.advance(timestamp)
            expired += timestamp <= segments.observed_stream_time - self._retention_ms
        return expired

    def _look_deeper(self, found: list[list[Match]], deeper: list[tuple[int, bytes, int, int]]) -> None:
        """Read what is not in memory, each segment once for all that need it."""
        wanted: dict[StateTable, list[int]] = {}
        for number, (_, _, first, last) in enumerate(deeper):
            for table in self._segments.tables(first, last):
                wanted.setdefault(table, []).append(number)
        for table in self._segments.tables(0, MAX_TIME):
            numbers = wanted.get(table, [])
            ranges = [
                (key + _SUFFIX.pack(first, 0), key + _SUFFIX.pack(last, _MAX_SEQUENCE) + b"\x00")
                for _, key, first, last in (deeper[number] for number in numbers)
            ]
            for number, rows in zip(numbers, table.scan_many(ranges), strict=True):
                if rows:
                    position, key, _, _ = deeper[number]
                    found[position] = found[position] + _own(rows, key)


def _own(rows: list[tuple[bytes, bytes]], key: bytes) -> list[Match]:
    """The rows of a key; those of longer keys may lie in between."""
    length = len(key) + SUFFIX_BYTES
    return [
        (_SUFFIX.unpack_from(store_key, len(key))[0], row)
        for store_key, row in rows
        if len(store_key) == length and store_key.startswith(key)
    ]
