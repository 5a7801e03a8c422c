"""The store of one side of a stream-stream join: every record for as long as it can be joined, none replaces another.

A row is the plain value under ``key | timestamp int64 | sequence int32``; the sequence tells records of one key and
time apart and goes on after a restart. Next: `recent_rows`, where most probes find what they want; `unmatched`, the
records that found no match.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import add
from struct import Struct
from typing import Generic, TypeVar, cast

from streamlib.errors import DeserializationError
from streamlib.record import Headers
from streamlib.serdes.base import Serde, any_none
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.probes import Probes
from streamlib.state.recent_rows import NO_MATCHES, Match, RecentRows
from streamlib.state.segments import MAX_TIME, Segments
from streamlib.state.spec import StoreSpec
from streamlib.state.staged_rows import StagedRows
from streamlib.state.timestamped import TimestampedRows
from streamlib.state.window import SEQUENCE_BYTES, SUFFIX_BYTES, window_starts

V = TypeVar("V")

NO_TIMESTAMP = -1

_SUFFIX = Struct(">qi")
_NOTE = Struct(">iq")  # beside the segments' time: the sequence, and the time of all records, null values included
_MAX_SEQUENCE = 0x7FFFFFFF
_STEP_ROWS = 2_000


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
    _staged: StagedRows | None

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
        self._recent = RecentRows(spec.window_size_ms, memory_bytes, self._fetch)
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
        self,
        keys: Sequence[bytes | None],
        timestamps: list[int],
        before_ms: int,
        after_ms: int,
        numbers: list[int] | None = None,
    ) -> list[list[Match]]:
        """For each serialized key and time the rows of that key in ``[time - before_ms, time + after_ms]``.

        In the order of time, then of arrival; none for no key. Look at them before the next put.

        Args:
            keys: One for each probe; None for no key.
            timestamps: Their times (ms).
            before_ms: How far back.
            after_ms: How far ahead.
            numbers: Of the probes, ascending: of the staged rows those with lower numbers are there. None: none is.
        """
        if not keys:
            return []
        staged = None if numbers is None else self._staged
        probes = Probes(keys, timestamps, before_ms, after_ms)
        if probes.earliest < self._newest_live_from():
            probes = Probes(keys, timestamps, before_ms, after_ms, self._live_from_at(numbers, len(keys)))
        if probes.earliest >= self._recent.complete_from:
            found = self._recent.find_many(probes)
        else:
            found = self._find_anywhere(probes)
        if staged is not None and numbers is not None:
            staged.find(found, probes, numbers)
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
        self,
        keys: list[bytes],
        values: list[V | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
        numbers: list[int] | None = None,
    ) -> None:
        """Log rows that `settle` puts. Takes and raises as `put_many`.

        Args:
            keys: As there, and so on.
            values: Likewise.
            timestamps: Likewise.
            headers: Likewise.
            numbers: Ascending; until `settle`, `matches` finds those with lower numbers than that of the probe.
        """
        assert self._staged is None, f"store {self._name!r}: settle() comes before the next stage()"
        rows = self._format.encode_many(keys, values)
        sequence = self._sequence
        sequences: Sequence[int] = range(sequence + 1, sequence + 1 + len(keys))
        if sequence + len(keys) > _MAX_SEQUENCE:
            sequences = [each & _MAX_SEQUENCE for each in sequences]
        store_keys = list(map(add, keys, map(_SUFFIX.pack, timestamps, sequences)))
        self._sequence = (sequence + len(keys)) & _MAX_SEQUENCE
        self._highest = max(self._highest, max(timestamps))
        if self._changelog is not None:
            self._changelog.append(store_keys, rows, timestamps, headers)
        self._staged = StagedRows(keys, store_keys, rows, timestamps, sequences, numbers or [])

    def settle(self) -> None:
        """Put the staged rows."""
        staged = self._staged
        assert staged is not None, f"store {self._name!r}: nothing is staged"
        self._staged = None
        self.expired += self._put(staged.store_keys, staged.rows, staged.timestamps)
        self._recent.add(staged.keys, staged.rows, staged.timestamps, staged.sequences, self._segments.live_from)

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
            self._remember(store_keys, [row for _, row in part], window_starts(store_keys))
            yield

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging or counting them."""
        if keys:
            times = window_starts(keys)
            self._sequence = _SUFFIX.unpack_from(keys[-1], len(keys[-1]) - SUFFIX_BYTES)[1]
            self._highest = max(self._highest, max(times))
            self._put(keys, values, times)
            self._remember(keys, values, times)

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

    def _remember(self, store_keys: list[bytes], rows: Sequence[bytes | None], times: list[int]) -> None:
        """Keep rows in memory that are in their segments."""
        keys = [key[:-SUFFIX_BYTES] for key in store_keys]
        sequences = [int.from_bytes(key[-SEQUENCE_BYTES:]) for key in store_keys]
        self._recent.add(keys, rows, times, sequences, self._segments.live_from)

    def _fetch(self, keys: list[bytes], timestamps: list[int], sequences: list[int]) -> list[bytes]:
        """The values of rows that are in their segments, but not in memory."""
        rows = self._segments.get_many(list(map(add, keys, map(_SUFFIX.pack, timestamps, sequences))))
        assert not any_none(rows), f"store {self._name!r}: a row is known, but not there"
        return cast("list[bytes]", rows)

    def _live_from_at(self, numbers: list[int] | None, count: int) -> list[int]:
        """For each probe, from which time on rows can be read."""
        if self._staged is None or numbers is None:
            return [self._segments.live_from] * count
        newest = self._staged.newest(self._segments.observed_stream_time, numbers, nulls=self._exact_expiry)
        return [max(0, time - self._retention_ms + 1) for time in newest]

    def _newest_live_from(self) -> int:
        """The same for a probe after all staged rows, or later."""
        if self._staged is None:
            return self._segments.live_from
        return max(self._segments.live_from, max(self._staged.timestamps) - self._retention_ms + 1)

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

    def _find_anywhere(self, probes: Probes) -> list[list[Match]]:
        """What `RecentRows.find_many` gives, where not all of it is in memory."""
        found, complete_from = [NO_MATCHES] * len(probes), self._recent.complete_from
        deeper: list[tuple[int, bytes, int, int]] = []
        near: list[int] = []
        for probe, key in enumerate(probes.keys):
            first, last = probes.range(probe)
            if first >= complete_from:
                near.append(probe)
            elif key is not None and first <= last:
                deeper.append((probe, key, first, last))
        if near:
            for probe, matches in zip(near, self._recent.find_many(probes.of(near)), strict=True):
                found[probe] = matches
        self._look_deeper(found, deeper)
        return found

    def _look_deeper(self, found: list[list[Match]], deeper: list[tuple[int, bytes, int, int]]) -> None:
        """Read what is not in memory, each segment once for all that need it."""
        if not deeper:
            return
        earliest = min(first for _, _, first, _ in deeper)
        latest = max(last for _, _, _, last in deeper)
        for table, begin, end in self._segments.tables(earliest, latest):
            wanted = [each for each in deeper if each[2] < end and each[3] >= begin]
            ranges = [
                (key + _SUFFIX.pack(first, 0), key + _SUFFIX.pack(last, _MAX_SEQUENCE) + b"\x00")
                for _, key, first, last in wanted
            ]
            for (probe, key, _, _), rows in zip(wanted, table.scan_many(ranges), strict=True):
                if rows:
                    found[probe] = found[probe] + _own(rows, len(key))


def _own(rows: list[tuple[bytes, bytes]], key_bytes: int) -> list[Match]:
    """The rows of a key of this length; those of longer keys may lie in between."""
    length = key_bytes + SUFFIX_BYTES
    own = [each for each in rows if len(each[0]) == length]
    return list(zip(window_starts([store_key for store_key, _ in own]), [row for _, row in own], strict=True))
