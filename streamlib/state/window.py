"""Window stores: a value for each key and window start, in segments that are dropped whole once they expire.

A store key is ``key | window start int64 | sequence int32``. Next: `segments`, in which rows lie; `cache`, which saves
most of the calls to a store; `stores`, which opens them.
"""

from collections.abc import Iterator
from itertools import islice
from struct import Struct
from typing import Generic, TypeVar

from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.segments import MAX_TIME, Segments
from streamlib.state.timestamped import TimestampedRows, timestamped

V = TypeVar("V")

SUFFIX_BYTES = 12

_SUFFIX = Struct(">qi")
SEQUENCE_BYTES = 4
_MAX_SEQUENCE = 0x7FFFFFFF

_FETCHED_ROWS = 1_000


def window_store_key(key: bytes, start: int, sequence: int = 0) -> bytes:
    """The store key of a window: what engine and changelog use. Source: Kafka's ``WindowKeySchema``."""
    return key + _SUFFIX.pack(start, sequence)


def split_window_store_key(store_key: bytes) -> tuple[bytes, int]:
    """The plain key and the window start (ms) of a store key."""
    return store_key[:-SUFFIX_BYTES], _SUFFIX.unpack_from(store_key, len(store_key) - SUFFIX_BYTES)[0]


def window_starts(store_keys: list[bytes]) -> list[int]:
    """The window starts (ms) of store keys."""
    return [int.from_bytes(key[-SUFFIX_BYTES:-SEQUENCE_BYTES]) for key in store_keys]


class WindowTimestampedStore(Generic[V]):
    """A `TimestampedStore` by window store key.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        retention_ms: Rows are readable while their window start is later than observed stream time minus this.
        cache_bytes: Memory for clean rows.
        time_ordered: Whether `fetch_all` has to be cheap, and gives rows in the order of time, then of keys.

    Time and order:
        The observed stream time is the highest window start in any put or restored row; it survives a restart. A row
        whose segment has expired is ignored and counted, but logged, as in the Java library.

    Attributes:
        expired: How many rows were put too late to be kept.

    Source: Kafka's ``AbstractRocksDBSegmentedBytesStore`` and ``AbstractSegments``.
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
        time_ordered: bool = False,
    ) -> None:
        self.expired = 0
        self._name = name
        self._changelog = changelog
        self._format = TimestampedRows(name, value_serde)
        self._time_ordered = time_ordered
        self._segments = Segments(
            name, engine, window_starts, retention_ms=retention_ms, cache_bytes=cache_bytes, time_ordered=time_ordered
        )

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def observed_stream_time(self) -> int:
        """The highest window start seen, -1 before the first."""
        return self._segments.observed_stream_time

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and timestamp (ms) of a row; None when its window is past the retention."""
        return self.get_many([key])[0]

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Rows, in the order of ``keys``; None where a window is past the retention. Raises as for key-value stores."""
        return self._format.decode_many(keys, self._segments.get_many(keys))

    def put_many(self, keys: list[bytes], values: list[V | None], timestamps: list[int]) -> None:
        """Write rows to the overlay and log them, in order; None deletes. Raises as for key-value stores."""
        plain = self._format.encode_many(keys, values)
        self.expired += self._segments.put_many(keys, timestamped(plain, timestamps))
        if self._changelog is not None:
            self._changelog.append(keys, plain, timestamps)

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Rows with ``start <= store key < end`` as (store key, value, timestamp), as of this moment.

        Segments come in the order of time, the rows of each in the order of their store keys.
        """
        return self._format.decoded(self._segments.scan(0, MAX_TIME, start, end, reverse=reverse))

    def fetch(self, key: bytes, time_from: int, time_to: int, *, reverse: bool = False) -> Iterator[tuple[int, V, int]]:
        """The windows of one key as (window start, value, timestamp), in the order of time, as of this moment.

        Args:
            key: The serialized plain key.
            time_from: Earliest window start in ms, inclusive.
            time_to: Latest window start in ms, inclusive.
            reverse: Latest window first.
        """
        time_from, time_to = max(time_from, self._segments.live_from), min(time_to, MAX_TIME)
        if time_to < time_from:
            return iter(())
        first = window_store_key(key, time_from)
        beyond = window_store_key(key, time_to, _MAX_SEQUENCE) + b"\x00"
        rows = self._segments.scan(time_from, time_to, first, beyond, reverse=reverse)
        own = (row for row in rows if row[0][:-SUFFIX_BYTES] == key)  # longer keys may lie in between
        return (
            (split_window_store_key(store_key)[1], value, timestamp)
            for store_key, value, timestamp in self._format.decoded(own)
        )

    def fetch_all(self, time_from: int, time_to: int, *, reverse: bool = False) -> Iterator[tuple[bytes, V, int]]:
        """All windows that start in ``[time_from, time_to]`` (ms) as (store key, value, timestamp).

        Those of a time-ordered store come by time, then by key; others in the order of `scan`.
        """
        time_to = min(time_to, MAX_TIME)
        if not self._time_ordered:
            return self._format.decoded(self._segments.scan(time_from, time_to, None, None, reverse=reverse))
        assert not reverse, f"store {self._name!r} gives the windows of all keys in the order of time only"
        return self._by_time(time_from, time_to)

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging or counting them."""
        self._segments.restore(keys, timestamped(values, timestamps))

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done."""
        return self._segments.pending()

    def applied(self) -> None:
        """The rows of `pending` are in the engine: expired segments are dropped there."""
        self._segments.applied()

    def discard(self) -> None:
        """Forget everything the engine does not have, the stream time included, and the cache."""
        self._segments.discard()

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return self._segments.pending_rows

    def _by_time(self, time_from: int, time_to: int) -> Iterator[tuple[bytes, V, int]]:
        """The rows of `fetch_all`, read as the caller goes on."""
        keys = self._segments.keys_by_time(time_from, time_to)
        while part := list(islice(keys, _FETCHED_ROWS)):
            for key, row in zip(part, self.get_many(part), strict=True):
                if row is not None:
                    yield key, row[0], row[1]
