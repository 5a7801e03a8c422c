"""What moves: columns of records between operators, and the one-record view that user code may ask for.

A `RecordBatch` is a run of consecutive records of one topic-partition as parallel lists. Batches are shared between
operators: whoever changes a column makes a new list. Next: `transport`, which polls them.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

K = TypeVar("K")
V = TypeVar("V")
KT_co = TypeVar("KT_co", covariant=True)
VT_co = TypeVar("VT_co", covariant=True)
KR = TypeVar("KR")
VR = TypeVar("VR")

Headers = Sequence[tuple[str, bytes | None]]
"""The headers of one record, in order; names may repeat."""


MAX_TIME_MS = 2**63 - 1
"""The end of windows that have none."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class RecordBatch:
    """Records as parallel lists of equal length.

    Attributes:
        keys: Raw bytes on the transport's edge, objects between operators; None for no key.
        values: Likewise; None is a tombstone.
        timestamps: Milliseconds since the epoch.
        offsets: Offset of the input record each row comes from (rows of one input record repeat it),
            or None where rows come from a cache flush or a punctuation.
        headers: Headers of each row, or None when no row has any (the common case, kept free of charge).
    """

    __slots__ = ("headers", "keys", "offsets", "timestamps", "values")

    def __init__(
        self,
        keys: list[Any],
        values: list[Any],
        timestamps: list[int],
        offsets: list[int] | None = None,
        headers: list[Headers] | None = None,
    ) -> None:
        self.keys = keys
        self.values = values
        self.timestamps = timestamps
        self.offsets = offsets
        self.headers = headers

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} records>"


class FetchedBatch(RecordBatch):
    """A batch as a consumer polled it: raw bytes.

    Attributes:
        next_offset: Where to go on reading, and what to commit once every row is processed. May lie beyond the
            last offset + 1, since it steps over transaction markers and compacted records.
    """

    __slots__ = ("next_offset",)

    offsets: list[int]

    def __init__(
        self,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        offsets: list[int],
        headers: list[Headers] | None,
        next_offset: int,
    ) -> None:
        super().__init__(keys, values, timestamps, offsets, headers)
        self.next_offset = next_offset


class ChangeBatch(RecordBatch):
    """Updates of a table: ``values`` are the new values, None is a deletion.

    Attributes:
        olds: The values before each update, or None when the table does not send old values.
        store_keys: The keys as their store has them, once the updates are written there.
        latest: False where a versioned table got an update older than its newest; None when all rows are latest.
    """

    __slots__ = ("latest", "olds", "store_keys")

    def __init__(
        self,
        keys: list[Any],
        values: list[Any],
        timestamps: list[int],
        offsets: list[int] | None = None,
        headers: list[Headers] | None = None,
        olds: list[Any] | None = None,
        latest: list[bool] | None = None,
    ) -> None:
        super().__init__(keys, values, timestamps, offsets, headers)
        self.olds = olds
        self.latest = latest
        self.store_keys: list[bytes] | None = None


class Record(msgspec.Struct, Generic[KT_co, VT_co], frozen=True):
    """One record, as a `Processor` takes and forwards it. It never changes: the methods give changed copies.

    Attributes:
        key: None for no key.
        value: None for a tombstone.
        timestamp: Milliseconds since the epoch, not negative.
        headers: In order; names may repeat.
    """

    key: KT_co
    value: VT_co
    timestamp: int
    headers: Headers = ()

    def with_key(self, key: KR) -> "Record[KR, VT_co]":
        """The record under another key."""
        return Record(key, self.value, self.timestamp, self.headers)

    def with_value(self, value: VR) -> "Record[KT_co, VR]":
        """The record with another value."""
        return Record(self.key, value, self.timestamp, self.headers)

    def with_timestamp(self, timestamp: int) -> "Record[KT_co, VT_co]":
        """The record at another time."""
        return Record(self.key, self.value, timestamp, self.headers)

    def with_headers(self, headers: Headers) -> "Record[KT_co, VT_co]":
        """The record with these headers and no others."""
        return Record(self.key, self.value, self.timestamp, tuple(headers))


class FixedKeyRecord(msgspec.Struct, Generic[KT_co, VT_co], frozen=True):
    """One record, as a `FixedKeyProcessor` takes and forwards it: a `Record` whose key stays."""

    key: KT_co
    value: VT_co
    timestamp: int
    headers: Headers = ()

    def with_value(self, value: VR) -> "FixedKeyRecord[KT_co, VR]":
        """The record with another value."""
        return FixedKeyRecord(self.key, value, self.timestamp, self.headers)

    def with_timestamp(self, timestamp: int) -> "FixedKeyRecord[KT_co, VT_co]":
        """The record at another time."""
        return FixedKeyRecord(self.key, self.value, timestamp, self.headers)

    def with_headers(self, headers: Headers) -> "FixedKeyRecord[KT_co, VT_co]":
        """The record with these headers and no others."""
        return FixedKeyRecord(self.key, self.value, self.timestamp, tuple(headers))


class Change(msgspec.Struct, frozen=True):
    """Both sides of a table's update as one value: what the repartition topic of a table aggregation carries.

    Attributes:
        new: The value to add, or None.
        old: The value to take out, or None; never None together with ``new``.
    """

    new: Any
    old: Any


class Windowed(msgspec.Struct, Generic[K], frozen=True):
    """The key of a windowed table.

    Attributes:
        key: The key that was grouped by.
        start: First millisecond of the window.
        end: End of the window: exclusive for tumbling and hopping windows (start + size), inclusive for sliding and
            session windows; `MAX_TIME_MS` for unlimited windows.
    """

    key: K
    start: int
    end: int

    def __str__(self) -> str:
        return f"[{self.key}@{self.start}/{self.end}]"
