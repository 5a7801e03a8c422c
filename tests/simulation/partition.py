"""One partition of the simulated broker: records, control markers, and what is known of the producers that wrote.

Offsets are positions in a list, since nothing is ever compacted. A transaction's records become visible, or vanish,
when its marker arrives in this partition, which other partitions may have got earlier or will get later.

Next: `broker`, which holds all partitions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from streamlib.record import FetchedBatch, Headers

Outcome = Literal["open", "committed", "aborted"]
REMEMBERED_BATCHES = 5


class Refused(Exception):  # noqa: N818 - an answer of the broker, with Kafka's number for it
    """The broker's answer is an error.

    Attributes:
        code: Kafka's number.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} (code {code})")
        self.code = code


OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC, COORDINATOR_LOADING, NOT_COORDINATOR = 1, 3, 14, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS = 22, 25, 27
OUT_OF_ORDER_SEQUENCE, INVALID_EPOCH, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS = 45, 47, 48, 51
INVALID_RECORD, UNSTABLE_OFFSETS = 87, 88


@dataclass
class Span:
    """What one transaction wrote to one partition."""

    producer: int
    first: int
    outcome: Outcome = "open"


@dataclass(frozen=True)
class Batch:
    """Columns on their way to one partition."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps: Sequence[int]
    headers: Sequence[Headers] | None
    sequence: int


@dataclass
class _Written:
    """What one producer has written here last."""

    epoch: int
    next_sequence: int = 0
    batches: dict[int, int] = field(default_factory=dict)  # first sequence to first offset


Row = tuple[bytes | None, bytes | None, int, Headers]


class Partition:
    """A log.

    Attributes:
        start: The first offset that still exists.
        max_message_bytes: The largest record.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self.start = 0
        self.max_message_bytes = max_message_bytes
        self._rows: list[Row | None] = []  # None is a marker
        self._spans: list[Span | None] = []
        self._open: dict[int, Span] = {}
        self._producers: dict[int, _Written] = {}

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self._rows)

    @property
    def stable(self) -> int:
        """The last stable offset: the first of the first transaction that is open here."""
        return min((span.first for span in self._open.values()), default=self.end)

    def append(self, batch: Batch, producer: int, epoch: int, *, transactional: bool) -> int:
        """Append a batch once, however often it comes; returns the offset of its first record.

        Raises:
            Refused: It comes from an older epoch, or out of order, or a record is too large.
        """
        written = self._producers.get(producer)
        if written is None or epoch > written.epoch:
            written = self._producers[producer] = _Written(epoch)
        if epoch < written.epoch:
            raise Refused(INVALID_EPOCH, f"epoch {epoch} is over, {written.epoch} has begun")
        if batch.sequence in written.batches:
            return written.batches[batch.sequence]
        if batch.sequence != written.next_sequence:
            raise Refused(OUT_OF_ORDER_SEQUENCE, f"sequence {batch.sequence} where {written.next_sequence} follows")
        for key, value in zip(batch.keys, batch.values, strict=True):
            if (size := len(key or b"") + len(value or b"")) > self.max_message_bytes:
                raise Refused(10, f"a record of {size} bytes is larger than {self.max_message_bytes}")
        offset = self.end
        span = None
        if transactional:
            span = self._open.get(producer)
            if span is None:
                span = self._open[producer] = Span(producer, offset)
        headers = batch.headers or [()] * len(batch.keys)
        self._rows += zip(batch.keys, batch.values, batch.timestamps, map(tuple, headers), strict=True)
        self._spans += [span] * len(batch.keys)
        written.next_sequence += len(batch.keys)
        written.batches[batch.sequence] = offset
        if len(written.batches) > REMEMBERED_BATCHES:
            del written.batches[next(iter(written.batches))]
        return offset

    def mark(self, producer: int, epoch: int, *, commit: bool) -> None:
        """A marker arrives."""
        written = self._producers.setdefault(producer, _Written(epoch))
        if epoch > written.epoch:
            self._producers[producer] = _Written(epoch)
        span = self._open.pop(producer, None)
        if span is not None:
            span.outcome = "committed" if commit else "aborted"
        self._rows.append(None)
        self._spans.append(None)

    def delete_before(self, offset: int) -> None:
        """Delete records; what is left is no less than there was."""
        self.start = max(self.start, min(offset, self.end))

    def read(self, position: int, max_records: int, *, committed: bool) -> FetchedBatch:
        """Records from ``position`` on.

        Raises:
            Refused: The position lies outside the log.
        """
        bound = self.stable if committed else self.end
        if not self.start <= position <= self.end:
            raise Refused(OFFSET_OUT_OF_RANGE, f"offset {position} lies outside [{self.start}, {self.end}]")
        found: list[tuple[int, Row]] = []
        at = position
        while at < bound and len(found) < max_records:
            row, span = self._rows[at], self._spans[at]
            if row is not None and not (committed and span is not None and span.outcome == "aborted"):
                found.append((at, row))
            at += 1
        while at < bound and self._rows[at] is None:  # steps over markers
            at += 1
        headers: list[Headers] | None = [row[3] for _, row in found]
        if not any(headers or ()):
            headers = None
        return FetchedBatch(
            [row[0] for _, row in found],
            [row[1] for _, row in found],
            [row[2] for _, row in found],
            [offset for offset, _ in found],
            headers,
            max(at, position),
        )

    def everything(self) -> list[bytes | None]:
        """All values that were ever committed, deleted ones included."""
        spans = zip(self._rows, self._spans, strict=True)
        return [row[1] for row, span in spans if row is not None and (span is None or span.outcome == "committed")]

    def first_not_before(self, timestamp_ms: int) -> int:
        """The first offset whose record is not older; the end when there is none."""
        for offset in range(self.start, self.end):
            row = self._rows[offset]
            if row is not None and row[2] >= timestamp_ms:
                return offset
        return self.end
