"""The records of one input partition that wait for their task: decoded by column, handed out in runs.

A task takes the run of records at the head of the queue whose timestamps are not above the other queues' heads, so
merging inputs by time keeps batches whole. Decoding and timestamp extraction happen when records reach the head, a
column of as many as are wanted at a time; only a column that fails is gone through record by record.

Source: RecordQueue. Next: `task`, which takes the runs; `operators/fusion`.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from streamlib.errors import ProcessingError
from streamlib.operators.selection import picked
from streamlib.record import FetchedBatch, RecordBatch, TopicPartition
from streamlib.runtime.future_times import FutureTimes
from streamlib.runtime.task_errors import RawRecord, raw_record
from streamlib.serdes.base import AnySerde
from streamlib.topology.nodes import Source


class DecodeErrors(Protocol):
    """What to do with a record that cannot be decoded."""

    def undecodable(
        self, error: Exception, part: str, node: str, tp: TopicPartition, fetched: FetchedBatch, row: int
    ) -> None:
        """Return to leave the record out (it is counted), or raise."""


class RecordQueue:
    """One partition's waiting records, oldest offset first.

    Attributes:
        buffered: Rows waiting, decoded or not.
        partition_time: Highest timestamp taken so far, -1 before the first.
        next_offset: What to commit once everything taken is processed.
        fetch_offset: Where the consumer goes on reading.
        needed_from: Tells up to where records were processed for good: those after it are kept as they were read, in
            case one fails.
    """

    def __init__(
        self,
        tp: TopicPartition,
        source: Source,
        decode_values: bool,
        errors: DecodeErrors,
        future_times: FutureTimes | None = None,
    ) -> None:
        self.tp = tp
        self.source = source
        self.buffered = 0
        self.partition_time = -1
        self.next_offset = -1
        self.fetch_offset = -1
        self.needed_from: Callable[[], int] = lambda: self.next_offset
        self._decode_values = decode_values
        self._errors = errors
        self._future_times = future_times
        self._fetched: deque[FetchedBatch] = deque()
        self._raw: deque[FetchedBatch] = deque()  # what the head and the runs before it were decoded from
        self._head: RecordBatch | None = None
        self._head_end = -1  # what to commit once the head batch is taken whole
        self._taken = 0
        self._claimed = 0  # rows of the head up to here are promised to the task
        self._negative = 0

    def start(self, offset: int, partition_time: int) -> None:
        """Forget what waits; the next record to take is the one at ``offset``."""
        self._fetched.clear()
        self._raw.clear()
        self._head = None
        self.buffered = 0
        self.next_offset = self.fetch_offset = offset
        self.partition_time = partition_time

    def add(self, batch: FetchedBatch) -> None:
        """Take in what a poll brought."""
        self._fetched.append(batch)
        self.buffered += len(batch)
        self.fetch_offset = batch.next_offset

    def step_over(self, position: int) -> None:
        """Go on at ``position``: what lay before it, after everything that was taken, are markers of transactions."""
        if not self.buffered and position > self.next_offset:
            self.next_offset = self.fetch_offset = position

    def head_time(self, max_rows: int | None = None) -> int | None:
        """Timestamp of the next record, or None when the queue is empty.

        Args:
            max_rows: How many records to decode at a time, since a serde may be slow; None for all that came together.
        """
        head = self._ready_head(max_rows)
        return None if head is None else head.timestamps[self._taken]

    def take(self, up_to_ms: int | None, max_rows: int) -> RecordBatch:
        """The next run: at most ``max_rows`` rows, none but the first with a timestamp above ``up_to_ms``."""
        self.claim(up_to_ms, max_rows)
        return self.take_claimed()

    def claim(self, up_to_ms: int | None, max_rows: int) -> int:
        """Let the next run, cut as in `take`, follow those that were claimed before; gives its length."""
        head = self._ready_head(max_rows)
        assert head is not None, "claim() on an empty queue"
        timestamps = head.timestamps
        row = last = min(len(timestamps), self._claimed + max_rows)
        if up_to_ms is not None:
            row = self._claimed + 1
            while row < last and timestamps[row] <= up_to_ms:
                row += 1
        length, self._claimed = row - self._claimed, row
        return length

    @property
    def unclaimed_time(self) -> int | None:
        """Timestamp of the next record to claim; None when `take_claimed` and `head_time` have to come first."""
        head = self._head
        return None if head is None or self._claimed == len(head) else head.timestamps[self._claimed]

    def unclaimed(self) -> tuple[list[int], int]:
        """The timestamps of the records at the head, and the place of the next to claim, which must exist."""
        assert self._head is not None, "unclaimed() on an empty queue"
        return self._head.timestamps, self._claimed

    def claim_to(self, row: int) -> None:
        """Let all before a place in `unclaimed` follow what was claimed before."""
        self._claimed = row

    def take_claimed(self) -> RecordBatch:
        """All that was claimed."""
        head = self._head
        assert head is not None, "take_claimed() on an empty queue"
        first, last = self._taken, self._claimed
        if first == 0 and last == len(head):
            run = head
        else:
            run = RecordBatch(
                self.source.key_serde.cut(head.keys, first, last),
                self.source.value_serde.cut(head.values, first, last),
                head.timestamps[first:last],
                head.offsets[first:last] if head.offsets is not None else None,
                head.headers[first:last] if head.headers is not None else None,
            )
        self.buffered -= last - first
        self.partition_time = max(self.partition_time, max(run.timestamps))
        if last == len(head):
            self._head, self.next_offset = None, self._head_end
        else:
            self._taken = last
            assert head.offsets is not None
            self.next_offset = head.offsets[last]
        return run

    def _ready_head(self, max_rows: int | None) -> RecordBatch | None:
        """The decoded batch at the head; batches of which nothing is left are stepped over."""
        while self._head is None and self._fetched:
            fetched = self._fetched.popleft()
            if max_rows is not None and len(fetched) > max_rows:
                fetched, rest = _split(fetched, max_rows)
                self._fetched.appendleft(rest)
            decoded = self._decode(fetched)
            self.buffered -= len(fetched) - len(decoded)
            if len(decoded):
                self._keep(fetched)
                self._head, self._head_end, self._taken, self._claimed = decoded, fetched.next_offset, 0, 0
            else:
                self.next_offset = fetched.next_offset
        return self._head

    def raw(self, offset: int) -> RawRecord | None:
        """A record as it was read; None if it has been processed for good, or was never here."""
        for fetched in self._raw:
            row = bisect_left(fetched.offsets, offset)
            if row < len(fetched) and fetched.offsets[row] == offset:
                return raw_record(fetched, row)
        return None

    def forget_raw(self) -> None:
        """Let go what was processed for good; nothing is being processed."""
        needed = self.needed_from()
        while self._raw and self._raw[0].next_offset <= needed:
            self._raw.popleft()

    def _keep(self, fetched: FetchedBatch) -> None:
        """Keep a batch as it was read; the last one before it may hold the run that is about to be processed."""
        needed = self.needed_from()
        while len(self._raw) > 1 and self._raw[0].next_offset <= needed:
            self._raw.popleft()
        self._raw.append(fetched)

    def _decode(self, fetched: FetchedBatch) -> RecordBatch:
        """Objects for bytes, event times for record times."""
        values: list[Any] = fetched.values
        try:
            keys = self.source.key_serde.deserialize_many(fetched.keys)
            if self._decode_values:
                values = self.source.value_serde.deserialize_many(fetched.values)
        except Exception:  # a serde may raise anything; the slow path finds the record and the part
            fetched = self._without_undecodable(fetched)
            keys = self.source.key_serde.deserialize_many(fetched.keys)
            values = self.source.value_serde.deserialize_many(fetched.values) if self._decode_values else fetched.values
        batch = RecordBatch(keys, values, fetched.timestamps, fetched.offsets, fetched.headers)
        if self.source.timestamp_extractor is not None:
            batch.timestamps = self._extract(batch, self.source.timestamp_extractor)
        if len(batch) and min(batch.timestamps) < 0:
            batch = self._without_negative(batch)
        if self._future_times is not None:
            batch = self._future_times.checked(batch, self.source.name, self.tp)
        return batch

    def _without_undecodable(self, fetched: FetchedBatch) -> FetchedBatch:
        """The rows that decode; the policy is asked about each other one."""
        good = [row for row in range(len(fetched)) if self._decodes(fetched, row)]
        return FetchedBatch(
            [fetched.keys[row] for row in good],
            [fetched.values[row] for row in good],
            [fetched.timestamps[row] for row in good],
            [fetched.offsets[row] for row in good],
            None if fetched.headers is None else [fetched.headers[row] for row in good],
            fetched.next_offset,
        )

    def _decodes(self, fetched: FetchedBatch, row: int) -> bool:
        value_serde = self.source.value_serde if self._decode_values else None
        return decodes(fetched, row, (self.source.key_serde, value_serde), self.source.name, self.tp, self._errors)

    def _extract(self, batch: RecordBatch, extractor: Callable[[Any, Any, int, int], int]) -> list[int]:
        """Event times; the extractor is told the highest time of the partition so far."""
        times: list[int] = []
        highest = self.partition_time
        assert batch.offsets is not None
        for key, value, timestamp, offset in zip(
            batch.keys, batch.values, batch.timestamps, batch.offsets, strict=True
        ):
            try:
                time = extractor(key, value, timestamp, highest)
            except Exception as error:
                msg = (
                    f"the timestamp extractor raised {error!r}: node={self.source.name} topic={self.tp.topic} "
                    f"partition={self.tp.partition} offset={offset}. Return a negative number to drop a record."
                )
                raise ProcessingError(msg) from error
            highest = max(highest, time)
            times.append(time)
        return times

    def _without_negative(self, batch: RecordBatch) -> RecordBatch:
        """The rows with a time; without an extractor a negative time is an error, as in Kafka Streams."""
        assert batch.offsets is not None
        if self.source.timestamp_extractor is None:
            row = next(row for row, time in enumerate(batch.timestamps) if time < 0)
            msg = (
                f"record with the negative timestamp {batch.timestamps[row]}: node={self.source.name} "
                f"topic={self.tp.topic} partition={self.tp.partition} offset={batch.offsets[row]}. "
                "Its producer set no timestamp. Give the stream a timestamp_extractor: a negative result drops the "
                "record, e.g. timestamp_extractor=timestamps.log_and_skip, or take the time from the value."
            )
            raise ProcessingError(msg)
        good = [row for row, time in enumerate(batch.timestamps) if time >= 0]
        self._negative += len(batch) - len(good)
        return picked(batch, good)

    def take_negative_count(self) -> int:
        """Rows dropped for a negative timestamp since the last call."""
        count, self._negative = self._negative, 0
        return count


def decodes(
    fetched: FetchedBatch,
    row: int,
    serdes: tuple[AnySerde, AnySerde | None],
    node: str,
    tp: TopicPartition,
    errors: DecodeErrors,
) -> bool:
    """Whether a record's key and value can be decoded; ``errors`` decides about one that cannot.

    Args:
        fetched: What a poll brought.
        row: The record.
        serdes: Of keys and of values; None for values that nobody decodes.
        node: The source.
        tp: The input.
        errors: Is asked.
    """
    for part, serde, data in (("key", serdes[0], fetched.keys[row]), ("value", serdes[1], fetched.values[row])):
        if data is None or serde is None:
            continue
        try:
            serde.deserialize(data)
        except Exception as error:  # the serde's own exception becomes the cause
            errors.undecodable(error, f"{part} ({serde.name})", node, tp, fetched, row)
            return False
    return True


def _split(batch: FetchedBatch, rows: int) -> tuple[FetchedBatch, FetchedBatch]:
    """The first so many rows, and the others."""
    headers = batch.headers
    first = FetchedBatch(
        batch.keys[:rows],
        batch.values[:rows],
        batch.timestamps[:rows],
        batch.offsets[:rows],
        headers[:rows] if headers is not None else None,
        batch.offsets[rows],
    )
    rest = FetchedBatch(
        batch.keys[rows:],
        batch.values[rows:],
        batch.timestamps[rows:],
        batch.offsets[rows:],
        headers[rows:] if headers is not None else None,
        batch.next_offset,
    )
    return first, rest
