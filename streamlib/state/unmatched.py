"""The store that both sides of a left or outer stream-stream join share: records that have found no match yet.

A store key is ``timestamp int64 | side byte | key``, a row the list of all values of that key, time and side:
``1 | count int32 | (length int32 | side byte | value)*``. So in key order the records whose time is over come first,
and of one time those of the right side. Next: `operators/join_streams`.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Protocol

from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.one_table import OneTableStore
from streamlib.state.rows import MISSING

LEFT, RIGHT = 1, 0
"""The side byte. Source: Kafka's ``TimestampedKeyAndJoinSideSerializer``, ``LeftOrRightValueSerializer``."""

_HEAD = Struct(">qB")
_COUNT = Struct(">i")
_VARIABLE_SIZE = b"\x01"
_LIST_HEAD_BYTES = 5
_ONE_VALUE = _VARIABLE_SIZE + _COUNT.pack(1)
_SIDE = (b"\x00", b"\x01")


def unmatched_key(timestamp: int, side: int, key: bytes) -> bytes:
    """The store key of a side's records of one serialized key and time."""
    return _HEAD.pack(timestamp, side) + key


def split_unmatched_key(store_key: bytes) -> tuple[int, int, bytes]:
    """Timestamp, side and serialized key of a store key."""
    timestamp, side = _HEAD.unpack_from(store_key)
    return timestamp, side, store_key[_HEAD.size :]


def values_of(row: bytes) -> Iterator[bytes]:
    """The serialized values of a row, in the order in which they were added. Source: Kafka's ``ListDeserializer``."""
    position = _LIST_HEAD_BYTES
    while position < len(row):
        first = position + _COUNT.size
        position = first + _COUNT.unpack_from(row, position)[0]
        yield row[first + 1 : position]


class SeenTime(Protocol):
    """Wants to know of records."""

    def seen(self, stream_time: int) -> None:
        """Records came, and made it as late as this."""


class JoinTime:
    """What both sides of a join know about time.

    Attributes:
        stream_time: The highest timestamp of the records of either side, -1 before the first.
        min_time: Timestamp of a record in the store before which none waits, as far as is known; None when none is.
        next_look_ms: The wall-clock time before which nobody looks for records whose time is over.
        idle: Is told when records came; None when their absence does not matter.

    Source: Kafka's ``KStreamImplJoin.TimeTracker``.
    """

    __slots__ = ("idle", "min_time", "next_look_ms", "stream_time")

    def __init__(self) -> None:
        self.stream_time = -1
        self.min_time: int | None = None
        self.next_look_ms = 0
        self.idle: SeenTime | None = None

    def may_be_over(self, open_ms: int) -> bool:
        """Whether there may be records that were open for ``open_ms`` and are not any more.

        Before anything is known it is worth a look, unless ``open_ms`` says that nothing is ever open for long: there
        Java's addition overflows, or not.
        """
        return open_ms > 0 if self.min_time is None else self.min_time + open_ms < self.stream_time


class UnmatchedStore(OneTableStore):
    """Lists of values by store key.

    Args:
        name: The store's name.
        engine: Where committed rows live.
        changelog: Where updates are logged, with every list as a whole; None for a store without logging.
        cache_bytes: Memory for clean rows.

    Attributes:
        expired: None do.
        time: Of the join.

    Source: Kafka's ``ListValueStore`` and ``ChangeLoggingListValueBytesStore``.
    """

    time: JoinTime
    _logged_keys: list[bytes]
    _logged_rows: list[bytes | None]
    _logged_times: list[int]

    def __init__(
        self, name: str, engine: Engine, changelog: ChangelogWriter | None = None, *, cache_bytes: int = 0
    ) -> None:
        super().__init__(name, engine, cache_bytes)
        self._changelog = changelog
        self._open()

    def resume(self, stream_time: int) -> None:
        """Go on with the time of a join that was interrupted: not before ``stream_time`` (ms), and with what waits."""
        self.time.stream_time = max(self.time.stream_time, stream_time)
        first = next(self.rows(), None)
        self.time.min_time = None if first is None else _HEAD.unpack_from(first[0])[0]

    def add(self, timestamp: int, side: int, key: bytes, value: bytes) -> None:
        """Append a value to the list of its key, time and side; logged at that time."""
        store_key = _HEAD.pack(timestamp, side) + key
        row = self._table.rows.get(store_key, MISSING)
        if row is MISSING:
            (row,) = self._table.get_many([store_key])
        value = _SIDE[side] + value
        if row is None:
            row = _ONE_VALUE + _COUNT.pack(len(value)) + value
        else:
            count = _COUNT.unpack_from(row, 1)[0] + 1
            row = _VARIABLE_SIZE + _COUNT.pack(count) + row[_LIST_HEAD_BYTES:] + _COUNT.pack(len(value)) + value
        self._put(store_key, row, timestamp)
        if self.time.min_time is None or timestamp < self.time.min_time:
            self.time.min_time = timestamp

    def matched(self, timestamp: int, side: int, key: bytes, now: int) -> None:
        """Remove the list of a key, time and side if there is one; logged at ``now`` (ms, stream time)."""
        store_key = _HEAD.pack(timestamp, side) + key
        row = self._table.rows.get(store_key, MISSING)
        if row is MISSING:
            (row,) = self._table.get_many([store_key])
        if row is not None:
            self._put(store_key, None, now)

    def remove(self, store_key: bytes, now: int) -> None:
        """Remove a list that is there; logged at ``now`` (ms, stream time)."""
        self._put(store_key, None, now)

    def log(self) -> None:
        """Write the updates since the last call to the changelog."""
        if self._changelog is not None and self._logged_keys:
            self._changelog.append(self._logged_keys, self._logged_rows, self._logged_times)
        self._logged_keys, self._logged_rows, self._logged_times = [], [], []

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """All rows in key order, as of this moment."""
        return self._table.scan(None, None)

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes, int]]:
        """Rows with ``start <= store key < end`` as (store key, row, timestamp) in key order, as of this moment."""
        rows = self._table.scan(start, end, reverse=reverse)
        return ((key, row, _HEAD.unpack_from(key)[0]) for key, row in rows)

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging them again."""
        self._table.rows.update(zip(keys, values, strict=True))

    def _put(self, store_key: bytes, row: bytes | None, logged_at: int) -> None:
        self._table.rows[store_key] = row
        self._logged_keys.append(store_key)
        self._logged_rows.append(row)
        self._logged_times.append(logged_at)

    def _open(self) -> None:
        super()._open()
        self._logged_keys, self._logged_rows, self._logged_times = [], [], []
        self.time = JoinTime()
