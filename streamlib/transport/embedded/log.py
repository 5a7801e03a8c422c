"""Records in the database: appended and read as column slices.

An offset without a record (a transaction's marker, an aborted or deleted record) is simply a gap between slices, which
readers step over. Next: `transactions`, which decide what may be read.
"""

from collections.abc import Mapping
from typing import NamedTuple

from streamlib.errors import OffsetOutOfRangeError, RecordTooLargeError
from streamlib.record import FetchedBatch, Headers, TopicPartition
from streamlib.transport.embedded.columns import Columns, cut, decode, encode, join
from streamlib.transport.embedded.database import Database
from streamlib.transport.embedded.topics import Topics

_SLICE_RECORDS = 8_192
_SLICE_BYTES = 1024 * 1024
_READ_BYTES = 8 * 1024 * 1024
_PURGED_AT_ONCE = 64


class Read(NamedTuple):
    """What a look at some partitions gave: batches of some of them, and of each the offset up to which one may read."""

    batches: dict[TopicPartition, FetchedBatch]
    bounds: dict[TopicPartition, int]


class Slice(NamedTuple):
    """Records to append to one partition, and their size in bytes."""

    columns: Columns
    size_bytes: int


def size_bytes(keys: list[bytes | None], values: list[bytes | None], headers: list[Headers] | None) -> int:
    """Bytes of all keys, values and headers."""
    size = sum(map(len, filter(None, keys))) + sum(map(len, filter(None, values)))
    if headers is not None:
        size += sum(len(name) + len(value or b"") for row in headers for name, value in row)
    return size


def refuse_larger(tp: TopicPartition, columns: Columns, limit_bytes: int) -> None:
    """Check each record against the topic's limit.

    Raises:
        RecordTooLargeError: One is larger.
    """
    for row in range(len(columns.keys)):
        size = size_bytes(*cut(columns, row, row + 1)[:2], columns.headers and columns.headers[row : row + 1])
        if size > limit_bytes:
            msg = (
                f"topic={tp.topic} partition={tp.partition} a record of {size} bytes is larger than the topic's "
                f"max.message.bytes={limit_bytes}: send less at once, or create the topic with a larger limit"
            )
            raise RecordTooLargeError(msg, row)


class Log:
    """The records of all partitions; every method runs inside a transaction of the database."""

    def __init__(self, database: Database, topics: Topics) -> None:
        self._connection = database.connection
        self._topics = topics

    def append(self, tp: TopicPartition, records: Slice, transaction_id: int | None) -> int:
        """Write records at the end of a partition.

        Returns:
            The offset after the last one.

        Raises:
            MissingTopicError: The partition does not exist.
            RecordRefusedError: A record is larger than the topic allows.
        """
        columns, size = records
        partition = self._topics.find([tp])[tp]
        if size > partition.max_message_bytes:
            refuse_larger(tp, columns, partition.max_message_bytes)
        if transaction_id is not None:
            self._connection.execute(
                "INSERT OR IGNORE INTO open_partitions VALUES (?, ?, ?)",
                (transaction_id, partition.id, partition.end_offset),
            )
        count = len(columns.keys)
        step = max(1, min(_SLICE_RECORDS, count * _SLICE_BYTES // max(size, 1)))
        base = partition.end_offset
        for start in range(0, count, step):
            part = cut(columns, start, start + step) if step < count else columns
            self._connection.execute(
                "INSERT INTO batches (partition_id, base_offset, next_offset, max_timestamp, transaction_id, columns)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (partition.id, base, base + len(part.keys), max(part.timestamps), transaction_id, encode(part)),
            )
            base += len(part.keys)
        self._connection.execute("UPDATE partitions SET end_offset = ? WHERE id = ?", (base, partition.id))
        return base

    def read(self, positions: Mapping[TopicPartition, int], max_records: int, *, committed: bool) -> Read:
        """What follows the given positions, partition by partition until about ``max_records`` are found.

        A batch may be empty: then only its ``next_offset`` is news.

        Args:
            positions: Offsets to read from; earlier entries are served first.
            max_records: Where to stop; a slice is always read whole.
            committed: Whether to stop before the first open transaction of a partition.

        Raises:
            MissingTopicError: A partition does not exist.
            OffsetOutOfRangeError: A position lies outside its partition.
        """
        found = self._topics.find(positions)
        open_offsets = self._first_open_offsets() if committed else {}
        bounds = {tp: open_offsets.get(partition.id, partition.end_offset) for tp, partition in found.items()}
        batches: dict[TopicPartition, FetchedBatch] = {}
        for tp, position in positions.items():
            partition = found[tp]
            if not partition.start_offset <= position <= partition.end_offset:
                msg = (
                    f"topic={tp.topic} partition={tp.partition} offset={position} lies outside the log, "
                    f"{partition.start_offset} to {partition.end_offset}: seek to one of these"
                )
                raise OffsetOutOfRangeError(msg)
            if position < bounds[tp] and max_records > 0:
                batches[tp] = self._read_partition(partition.id, position, bounds[tp], max_records)
                max_records -= len(batches[tp])
        return Read(batches, bounds)

    def _read_partition(self, partition_id: int, position: int, bound: int, max_records: int) -> FetchedBatch:
        parts: list[Columns] = []
        offsets: list[int] = []
        size = 0
        cursor = self._connection.execute(
            "SELECT base_offset, next_offset, columns FROM batches"
            " WHERE partition_id = ? AND next_offset > ? AND next_offset <= ? ORDER BY next_offset",
            (partition_id, position, bound),
        )
        reached = bound
        for base, after, blob in cursor:
            first = max(base, position)
            columns = decode(blob)
            parts.append(columns if first == base else cut(columns, first - base, after - base))
            offsets += range(first, after)
            size += len(blob)
            if len(offsets) >= max_records or size >= _READ_BYTES:
                reached = after
                break
        cursor.close()
        keys, values, timestamps, headers = join(parts)
        return FetchedBatch(keys, values, timestamps, offsets, headers, reached)

    def offset_for_time(self, tp: TopicPartition, timestamp_ms: int) -> int:
        """The first offset whose record is not older; the end offset when there is none."""
        partition = self._topics.find([tp])[tp]
        rows = self._connection.execute(
            "SELECT base_offset, columns FROM batches"
            " WHERE partition_id = ? AND next_offset > ? AND max_timestamp >= ? ORDER BY next_offset",
            (partition.id, partition.start_offset, timestamp_ms),
        ).fetchmany
        while found := rows(1):
            [(base, blob)] = found
            for offset, timestamp in enumerate(decode(blob).timestamps, base):
                if timestamp >= timestamp_ms and offset >= partition.start_offset:
                    return offset
        return partition.end_offset

    def delete_before(self, tp: TopicPartition, offset: int) -> None:
        """Let a partition start at ``offset``; the records before it become garbage."""
        partition = self._topics.find([tp])[tp]
        start = min(max(offset, partition.start_offset), partition.end_offset)
        self._connection.execute("UPDATE partitions SET start_offset = ? WHERE id = ?", (start, partition.id))
        self._connection.execute("INSERT OR REPLACE INTO garbage VALUES (?, ?)", (partition.id, start))

    def purge(self) -> bool:
        """Free some garbage, little enough to take milliseconds.

        Returns:
            Whether there may be more.
        """
        row = self._connection.execute("SELECT partition_id, before_offset FROM garbage LIMIT 1").fetchone()
        if row is None:
            return False
        purged = self._connection.execute(
            "DELETE FROM batches WHERE id IN"
            " (SELECT id FROM batches WHERE partition_id = ? AND next_offset <= ? ORDER BY next_offset LIMIT ?)",
            (*row, _PURGED_AT_ONCE),
        )
        if purged.rowcount < _PURGED_AT_ONCE:
            self._connection.execute("DELETE FROM garbage WHERE partition_id = ?", row[:1])
        return True

    def _first_open_offsets(self) -> dict[int, int]:
        return dict(
            self._connection.execute(
                "SELECT partition_id, min(first_offset) FROM open_partitions GROUP BY partition_id"
            )
        )
