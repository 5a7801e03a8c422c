"""Session stores: a value for each key and session, in segments by the end of the session.

A row is the plain value, since a session's timestamp is its end. Next: `session_cache`, which saves most of the calls
to a store; `stores`, which opens them.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Generic, TypeVar

from streamlib.errors import DeserializationError
from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.live_keys import LiveKeys
from streamlib.state.segments import MAX_TIME, Segments
from streamlib.state.session_keys import (
    SUFFIX_BYTES,
    session_end,
    session_ends,
    session_store_key,
    split_session_store_key,
)
from streamlib.state.timestamped import TimestampedRows

V = TypeVar("V")

_FIRST_SUFFIX = session_store_key(b"", 0, 0)
_LAST_SUFFIX = session_store_key(b"", MAX_TIME, MAX_TIME)


class SessionStore(Generic[V]):
    """Values by session store key; also a `TimestampedStore`, where the timestamp of a row is the session's end.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        retention_ms: Sessions are readable while their end is later than observed stream time minus this.
        cache_bytes: Memory for clean rows, and for keys that have sessions.
        exact_expiry: Whether a row expires on its own, as in Java's stores in memory, and not with its segment.

    Time and order:
        The observed stream time is the latest end in any put or restored row; it survives a restart. A row that
        comes too late is ignored and counted, but logged, as in the Java library.

    Attributes:
        expired: How many rows were put too late to be kept.
        retention_ms: As given.

    Source: Kafka's ``RocksDBSessionStore`` and ``ChangeLoggingSessionBytesStore``.
    """

    def __init__(
        self,
        name: str,
        value_serde: Serde[V],
        engine: Engine,
        changelog: ChangelogWriter | None = None,
        *,
        retention_ms: int,
        cache_bytes: int = 0,
        exact_expiry: bool = False,
    ) -> None:
        self.expired = 0
        self.retention_ms = retention_ms
        self._name = name
        self._serde = value_serde
        self._exact_expiry = exact_expiry
        self._changelog = changelog
        self._format = TimestampedRows(name, value_serde)
        self._segments = Segments(
            name,
            engine,
            session_ends,
            retention_ms=retention_ms,
            cache_bytes=cache_bytes // 2,
            exact_expiry=exact_expiry,
        )
        self._live_keys = LiveKeys(retention_ms, cache_bytes // 2)
        self._live_keys.begin(self.observed_stream_time + 1)

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def observed_stream_time(self) -> int:
        """The latest end of a session seen, -1 before the first."""
        return self._segments.observed_stream_time

    def kept_from(self, stream_time: int) -> int:
        """From which end on `find_ended` gives every session, when observed stream time is this."""
        return stream_time - self.retention_ms + 1 if self._exact_expiry else self._segments.kept_from(stream_time)

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and end (ms) of a session by store key; None when it is past the retention."""
        return self.get_many([key])[0]

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Values and ends of sessions, in the order of their store keys; None where one is past the retention.

        Raises:
            StateStoreError: The engine cannot read.
            DeserializationError: The value serde refuses a row.
        """
        rows, decode = self._segments.get_many(keys), self.decode
        return [
            None if row is None else (decode(key, row), session_end(key)) for key, row in zip(keys, rows, strict=True)
        ]

    def fetch_session(self, key: bytes, start: int, end: int) -> V | None:
        """The value of the session of a plain key with exactly these bounds (ms), both inclusive."""
        row = self.get(session_store_key(key, start, end))
        return None if row is None else row[0]

    def put_many(self, keys: list[bytes], values: list[V | None], timestamps: list[int]) -> None:
        """Write sessions to the overlay and log them, in order; None removes one.

        Args:
            keys: Store keys.
            values: New values.
            timestamps: Those of the changelog records: of the records that caused the updates.

        Raises:
            SerdeError: The value serde refuses a value; nothing was written.
        """
        rows = self.encode_many(keys, values)
        self.put_rows(keys, rows, timestamps, _plain(keys), session_ends(keys))

    def put_rows(
        self,
        keys: list[bytes],
        rows: list[bytes | None],
        timestamps: list[int],
        plain_keys: list[bytes],
        ends: list[int],
    ) -> None:
        """The same with values that `encode_many` has serialized, and with the parts of the store keys."""
        self.expired += self._segments.put_at(keys, rows, ends)
        self._live_keys.add(plain_keys, ends, self._segments.live_from)
        if self._changelog is not None:
            self._changelog.append(keys, rows, timestamps)

    def find_sessions(
        self, key: bytes, earliest_end: int = 0, latest_start: int = MAX_TIME, *, reverse: bool = False
    ) -> Iterator[tuple[int, int, V]]:
        """The sessions of a plain key as (start, end, value) in the order of time, as of this moment.

        Args:
            key: The serialized plain key.
            earliest_end: Only sessions that end then (ms) or later.
            latest_start: Only sessions that start then (ms) or earlier.
            reverse: Latest session first.
        """
        rows = self._rows_of(key, earliest_end, latest_start, reverse=reverse)
        return ((start, end, self.decode(key, row)) for start, end, row in rows)

    def find_sessions_between(
        self,
        first: bytes | None,
        last: bytes | None,
        earliest_end: int = 0,
        latest_start: int = MAX_TIME,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, V, int]]:
        """The sessions of all plain keys from ``first`` to ``last``, both included, as (store key, value, end).

        Order of `scan`. None stands for no bound.
        """
        rows = self._segments.scan(earliest_end, MAX_TIME, first, None, reverse=reverse)
        for store_key, row in rows:
            key, start, end = split_session_store_key(store_key)
            if (first is None or key >= first) and (last is None or key <= last) and start <= latest_start:
                yield store_key, self.decode(store_key, row), end

    def find_ended(self, earliest_end: int, latest_end: int) -> Iterator[tuple[bytes, V, int]]:
        """The sessions of all keys that end in ``[earliest_end, latest_end]`` as (store key, value, end).

        In the order of their ends, then of their starts, then of their keys. Sessions past the retention are found as
        long as their segments have not expired, which matters for those that are just closed; not with exact expiry.

        Source: Kafka's ``RocksDBTimeOrderedSessionSegmentedBytesStore``, ``InMemorySessionStore``.
        """
        segments = self._segments
        if self._exact_expiry:
            rows = segments.scan(earliest_end, latest_end, None, None)
        else:
            rows = segments.scan_expired(earliest_end, latest_end)
        found = sorted(
            rows,
            key=lambda row: (row[0][-SUFFIX_BYTES:], row[0][:-SUFFIX_BYTES]),
        )
        return ((key, self.decode(key, row), session_end(key)) for key, row in found)

    def find_rows(self, keys: Iterable[bytes], known: Container[bytes]) -> dict[bytes, list[tuple[int, int, bytes]]]:
        """All sessions of each plain key as (start, end, serialized value), in the order of time.

        Keys that are known already, and most of those without any, are left out.
        """
        live_from = self._segments.live_from
        asked = [key for key in self._live_keys.among(keys, live_from) if key not in known]
        found: dict[bytes, list[tuple[int, int, bytes]]] = {key: [] for key in asked}
        if not asked:
            return found
        ranges = [(key + _FIRST_SUFFIX, key + _LAST_SUFFIX + b"\x00") for key in asked]
        for table, _, _ in self._segments.tables(live_from, MAX_TIME):
            for key, rows in zip(asked, table.scan_many(ranges), strict=True):
                if not rows:
                    continue
                length = len(key) + SUFFIX_BYTES  # longer keys may lie in between
                for store_key, row in rows:
                    if len(store_key) == length:
                        _, start, end = split_session_store_key(store_key)
                        if end >= live_from:
                            found[key].append((start, end, row))
        return found

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Rows with ``start <= store key < end`` as (store key, value, session end), as of this moment.

        Segments come in the order of time, the rows of each in the order of their store keys.
        """
        rows = self._segments.scan(0, MAX_TIME, start, end, reverse=reverse)
        return ((key, self.decode(key, row), session_end(key)) for key, row in rows)

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging or counting them."""
        self._segments.restore(keys, values)
        self._live_keys.add(_plain(keys), session_ends(keys), self._segments.live_from)

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done."""
        return self._segments.pending()

    def applied(self) -> None:
        """The rows of `pending` are in the engine: expired segments are dropped there."""
        self._segments.applied()

    def discard(self) -> None:
        """Forget everything the engine does not have, the stream time included, and the cache."""
        self._segments.discard()
        self._live_keys.begin(self.observed_stream_time + 1)

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return self._segments.pending_rows

    def encode_many(self, keys: list[bytes], values: list[V | None]) -> list[bytes | None]:
        """Values as rows; ``keys`` are for messages only. Raises as `put_many`."""
        return self._format.encode_many(keys, values)

    def decode(self, key: bytes, row: bytes) -> V:
        """The value of a row; ``key`` is for the message only.

        Raises:
            DeserializationError: The value serde refuses it.
        """
        try:
            return self._serde.deserialize(row)
        except Exception as error:
            msg = (
                f"store {self._name!r}: the row with key {key!r} is refused by its value serde {self._serde.name}:"
                f" {error}; a store whose value type changed needs a new name, or a reset of the application"
            )
            raise DeserializationError(msg) from error

    def _rows_of(
        self, key: bytes, earliest_end: int, latest_start: int, *, reverse: bool
    ) -> Iterator[tuple[int, int, bytes]]:
        if latest_start < 0:
            return
        first = session_store_key(key, 0, max(earliest_end, 0))
        beyond = session_store_key(key, min(latest_start, MAX_TIME), MAX_TIME) + b"\x00"
        for store_key, row in self._segments.scan(earliest_end, MAX_TIME, first, beyond, reverse=reverse):
            plain, start, end = split_session_store_key(store_key)
            if plain == key and start <= latest_start:  # longer keys may lie in between
                yield start, end, row


def _plain(store_keys: list[bytes]) -> list[bytes]:
    """The plain keys of store keys."""
    return [key[:-SUFFIX_BYTES] for key in store_keys]
