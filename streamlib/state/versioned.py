"""Versioned key-value stores: for each key its latest version, and those before it for as long as history is kept.

The latest versions are rows ``time int64 | value`` in the engine's table of the store's name; they never expire. All
others are in segments. A deletion is a version, too, but never among the latest ones. The changelog has plain values,
each at the time of its version.

Next: `stores`, which opens it; `operators/materialized`, which writes one.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.rows import Rows
from streamlib.state.table import RowCache, StateTable
from streamlib.state.timestamped import TIMESTAMP_BYTES, TimestampedRows, pack_timestamp, unpack_timestamp
from streamlib.state.version_segments import IS_LATEST, VersionSegments

__all__ = ["IS_LATEST", "NOT_PUT", "Version", "VersionedStore"]

V = TypeVar("V")

NOT_PUT = -(2**63)
"""What a put gives for a version older than the history: it was only logged and counted."""

_TIME_KEY = b"observed"
_NO_TIME = -1


class Version(NamedTuple, Generic[V]):
    """A value and when it was valid.

    Attributes:
        value: The value.
        timestamp: From when it was valid (ms).
        valid_to: When it was replaced or deleted; None for the latest version.
    """

    value: V
    timestamp: int
    valid_to: int | None


class VersionedStore(Generic[V]):
    """A `TimestampedStore` of the latest versions, that can also be asked about earlier times.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        history_ms: Any time back to observed stream time minus this can be asked about, and written to.
        cache_bytes: Memory for clean rows of latest versions.

    Time and order:
        The observed stream time is the highest time of any version put or restored; it survives a restart. A version
        older than the history is ignored and counted, but logged, as in the Java library.

    Attributes:
        expired: How many versions were put too late to be kept.

    Source: KIP-889, Kafka's ``RocksDBVersionedStore`` and ``ChangeLoggingVersionedKeyValueBytesStore``.
    """

    _latest: StateTable
    _time: StateTable
    _segments: VersionSegments
    _stored_time: int  # observed stream time in the rows of `pending`, or in the engine

    def __init__(
        self,
        name: str,
        value_serde: Serde[V],
        engine: Engine,
        changelog: ChangelogWriter | None = None,
        *,
        history_ms: int,
        cache_bytes: int = 0,
    ) -> None:
        self.expired = 0
        self._name = name
        self._engine = engine
        self._changelog = changelog
        self._format = TimestampedRows(name, value_serde)
        self._cache = RowCache(cache_bytes)
        self._history_ms = history_ms
        self._open()

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def observed_stream_time(self) -> int:
        """The highest time of a version seen, -1 before the first."""
        return self._segments.observed

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and time (ms) of the latest version; None when the key is deleted."""
        return self.get_many([key])[0]

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Latest versions, in the order of ``keys``. Raises as for key-value stores."""
        return self._format.decode_many(keys, self._latest.get_many(keys))

    def get_as_of(self, key: bytes, time: int) -> tuple[V, int] | None:
        """Value and time (ms) of the version that was valid at ``time`` (ms); see `get_many_as_of`."""
        return self.get_many_as_of([key], [time])[0]

    def get_many_as_of(self, keys: list[bytes], times: list[int]) -> list[tuple[V, int] | None]:
        """The versions that were valid at ``times`` (ms), in the order of ``keys``.

        None where the key was deleted or unknown then, and where that time is before the history and the latest version
        is younger. Raises as for key-value stores.
        """
        rows: list[bytes | None] = []
        replaced: list[int] = []
        known_from = self.observed_stream_time - self._history_ms
        for position, (row, time) in enumerate(zip(self._latest.get_many(keys), times, strict=True)):
            if row is not None and unpack_timestamp(row)[0] <= time:
                rows.append(row)
            else:
                rows.append(None)
                if time >= known_from:
                    replaced.append(position)
        if replaced:
            for position, found in self._segments.as_of(keys, times, replaced).items():
                if found.value is not None:
                    rows[position] = pack_timestamp(found.valid_from) + found.value
        return self._format.decode_many(keys, rows)

    def versions(self, key: bytes) -> list[Version[V]]:
        """All versions of one key that are still stored, newest first, deletions left out."""
        latest = self.get(key)
        found = [] if latest is None else [Version(*latest, None)]
        for each in self._segments.versions(key):
            if each.value is not None:
                value, time = self._format.decode(key, pack_timestamp(each.valid_from) + each.value)
                found.append(Version(value, time, each.valid_to))
        return found

    def stored_keys(self) -> list[bytes]:
        """All keys that have a version or had one, in their order; costs a scan of the whole store."""
        return sorted({key for key, _ in self._latest.scan(None, None)} | self._segments.stored_keys())

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Latest versions with ``start <= key < end`` as (key, value, time) in key order, as of this moment."""
        return self._format.decoded(self._latest.scan(start, end, reverse=reverse))

    def put(self, key: bytes, value: V | None, timestamp: int) -> int:
        """Put one version; see `put_versions`."""
        return self.put_versions([key], [value], [timestamp])[0]

    def put_many(self, keys: list[bytes], values: list[V | None], timestamps: list[int]) -> None:
        """The same as `put_versions`, for callers that need not know what came of it."""
        self.put_versions(keys, values, timestamps)

    def put_versions(self, keys: list[bytes], values: list[V | None], timestamps: list[int]) -> list[int]:
        """Put versions and log them, in order; None deletes from its time on.

        Returns:
            For each the time (ms) to which it is valid, or `IS_LATEST`, or `NOT_PUT`.

        Raises:
            SerdeError: The value serde refuses a value; nothing was written.
        """
        plain = self._format.encode_many(keys, values)
        ends = self._put(keys, plain, timestamps)
        self.expired += ends.count(NOT_PUT)
        if self._changelog is not None:
            self._changelog.append(keys, plain, timestamps)
        return ends

    def delete(self, key: bytes, timestamp: int) -> tuple[V, int] | None:
        """Put a deletion; the version that was valid at that time. None, too, when the deletion came too late."""
        before = self.get_as_of(key, timestamp)
        return None if self.put(key, None, timestamp) == NOT_PUT else before

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging or counting them."""
        self._put(keys, values, timestamps)

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done.

        Older versions come before newer ones and the time comes last: if a crash cuts a batch that is written in
        chunks, putting the same versions again completes it.
        """
        if self.observed_stream_time > self._stored_time:
            self._stored_time = self.observed_stream_time
            self._time.rows[_TIME_KEY] = pack_timestamp(self._stored_time)
        writes = self._segments.pending()
        writes.update((table.name, rows) for table in (self._latest, self._time) if (rows := table.pending()))
        return writes

    def applied(self) -> None:
        """The rows of `pending` are in the engine."""
        self._segments.applied()
        self._latest.applied()
        self._time.applied()

    def discard(self) -> None:
        """Forget everything the engine does not have, the stream time included, and the cache."""
        self._cache.clear()
        self._open()

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return self._segments.pending_rows + self._latest.pending_rows + self._time.pending_rows

    def _open(self) -> None:
        """Take the state of the engine."""
        self._segments = VersionSegments(self._engine, self._name, self._history_ms)
        tables, time = self._engine.tables(), f"{self._name}/time"
        self._latest = StateTable(self._engine, self._name, self._cache, exists=self._name in tables)
        self._time = StateTable(self._engine, time, RowCache(0), exists=time in tables)
        self._stored_time = _NO_TIME
        (kept,) = self._time.get_many([_TIME_KEY])
        if kept is not None:
            self._stored_time = unpack_timestamp(kept)[0]
            self._segments.advance(self._stored_time)

    def _put(self, keys: list[bytes], values: Sequence[bytes | None], timestamps: list[int]) -> list[int]:
        segments, overlay = self._segments, self._latest.rows
        distinct = list(set(keys))
        latest: Rows = dict(zip(distinct, self._latest.get_many(distinct), strict=True))
        ends = []
        for key, value, time in zip(keys, values, timestamps, strict=True):
            if time < segments.observed - self._history_ms:
                ends.append(NOT_PUT)
                continue
            if time > segments.observed:
                segments.advance(time)
            row = latest[key]
            end = IS_LATEST
            if row is None:
                end = segments.put_before(key, value, time, IS_LATEST)
            elif time < (before := unpack_timestamp(row)[0]):
                end = segments.put_before(key, value, time, before)
            elif time > before:
                segments.put_ended(key, row[TIMESTAMP_BYTES:], before, time)
            if end == IS_LATEST and (row is not None or value is not None):
                overlay[key] = latest[key] = None if value is None else pack_timestamp(time) + value
            ends.append(end)
        return ends
