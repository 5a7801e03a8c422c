"""Window definitions: sizes in ms, made once from timedeltas at the DSL's edge. Next: `nodes`, which hold them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from streamlib.record import MAX_TIME_MS


class EmitStrategy(Enum):
    """When a windowed aggregation passes its results on. Source: KIP-825."""

    ON_WINDOW_UPDATE = "on_window_update"
    """With each record that changes a window: the default."""

    ON_WINDOW_CLOSE = "on_window_close"
    """Once for each window, when it takes no more records."""


def to_ms(duration: object) -> int:
    """Whole milliseconds of a duration.

    Raises:
        TypeError: It is not a timedelta; the message shows how to write one.
    """
    if not isinstance(duration, timedelta):
        msg = f"a duration must be a timedelta, e.g. timedelta(milliseconds=500), not {duration!r}"
        raise TypeError(msg)
    return duration // timedelta(milliseconds=1)


@dataclass(frozen=True)
class TimeWindows:
    """Tumbling windows, or hopping ones when ``advance_ms`` is smaller than ``size_ms``.

    A record at ``ts`` belongs to every window ``[start, start + size)`` with ``start`` a multiple of the advance.
    A window is closed once stream time reaches its end plus the grace (KafkaStreams: ``end <= streamTime - grace``).
    """

    size_ms: int
    advance_ms: int
    grace_ms: int = 0

    @classmethod
    def of(cls, size: timedelta, *, advance: timedelta | None = None, grace: timedelta = timedelta()) -> "TimeWindows":
        """Windows of ``size`` that start every ``advance`` (default: every ``size``).

        Raises:
            ValueError: A size or advance that is not positive, an advance over the size, or a negative grace.
        """
        size_ms, grace_ms = to_ms(size), to_ms(grace)
        advance_ms = size_ms if advance is None else to_ms(advance)
        if size_ms <= 0:
            msg = f"a window's size must be at least 1 ms, not {size!r}"
            raise ValueError(msg)
        if not 0 < advance_ms <= size_ms:
            msg = f"a window's advance must be between 1 ms and its size ({size!r}), not {advance!r}"
            raise ValueError(msg)
        if grace_ms < 0:
            msg = f"a window's grace cannot be negative: {grace!r}"
            raise ValueError(msg)
        return cls(size_ms, advance_ms, grace_ms)

    def starts(self, timestamp: int) -> range:
        """Starts of the windows that contain ``timestamp``, oldest first."""
        first = max(0, timestamp - self.size_ms + self.advance_ms) // self.advance_ms * self.advance_ms
        return range(first, timestamp + 1, self.advance_ms)

    @property
    def default_retention_ms(self) -> int:
        """How long a store must keep a window: its size and the grace."""
        return self.size_ms + self.grace_ms


@dataclass(frozen=True)
class SlidingWindows:
    """For each record the windows in which it is the last one, and in which it is the first one to be left out.

    Windows ``[start, start + difference]`` include both ends. There is one that ends at each record, and one that
    starts right after each record if others follow within the difference: so each set of records that lie close enough
    together is in exactly one window. Records earlier than the difference share the window ``[0, difference]``.
    A window is closed once its end is older than stream time minus the grace.

    Source: KIP-450.
    """

    difference_ms: int
    grace_ms: int = 0

    @classmethod
    def of(cls, time_difference: timedelta, *, grace: timedelta = timedelta()) -> "SlidingWindows":
        """Windows for records that are at most ``time_difference`` apart.

        Raises:
            ValueError: A time difference that is not positive, or a negative grace.
        """
        difference_ms, grace_ms = to_ms(time_difference), to_ms(grace)
        if difference_ms <= 0:
            msg = f"the time difference of sliding windows must be at least 1 ms, not {time_difference!r}"
            raise ValueError(msg)
        if grace_ms < 0:
            msg = f"a window's grace cannot be negative: {grace!r}"
            raise ValueError(msg)
        return cls(difference_ms, grace_ms)

    @property
    def size_ms(self) -> int:
        """From the start to the end of a window, which is inclusive."""
        return self.difference_ms

    @property
    def default_retention_ms(self) -> int:
        """How long a store must keep a window: a new one can take over what one of twice the difference ago has."""
        return 2 * self.difference_ms + self.grace_ms


@dataclass(frozen=True)
class UnlimitedWindows:
    """One window without an end, for all records from its start on; earlier records are in none. It never closes."""

    start_ms: int = 0

    @classmethod
    def of(cls, *, start: datetime | None = None) -> "UnlimitedWindows":
        """The window that begins at ``start``; None for 1970-01-01.

        Raises:
            TypeError: A start that is not a datetime.
            ValueError: A start without time zone, or before 1970-01-01.
        """
        if start is None:
            return cls()
        if not isinstance(start, datetime):
            msg = f"the start of a window must be a datetime, e.g. datetime(2026, 1, 1, tzinfo=UTC), not {start!r}"  # type: ignore[unreachable]
            raise TypeError(msg)
        if start.tzinfo is None:
            msg = f"the start of a window needs a time zone: {start!r}.replace(tzinfo=UTC), say"
            raise ValueError(msg)
        start_ms = (start - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
        if start_ms < 0:
            msg = f"the start of a window cannot be before 1970-01-01: {start!r}"
            raise ValueError(msg)
        return cls(start_ms)

    @property
    def size_ms(self) -> int:
        """More than there is time."""
        return MAX_TIME_MS

    @property
    def grace_ms(self) -> int:
        """None is needed."""
        return 0

    def starts(self, timestamp: int) -> range:
        """The start, if ``timestamp`` is not before it."""
        return range(self.start_ms, self.start_ms + (timestamp >= self.start_ms))

    @property
    def default_retention_ms(self) -> int:
        """For ever."""
        return MAX_TIME_MS


@dataclass(frozen=True)
class JoinWindows:
    """Which records of two streams belong together: ``left - before <= right <= left + after``, both included.

    A record waits for its match until stream time has passed the end of its window by more than the grace.
    """

    before_ms: int
    after_ms: int
    grace_ms: int = 0

    @classmethod
    def of(
        cls,
        time_difference: timedelta,
        *,
        before: timedelta | None = None,
        after: timedelta | None = None,
        grace: timedelta = timedelta(),
    ) -> "JoinWindows":
        """A window around each record of the left stream.

        Args:
            time_difference: How far a record of the right stream may be away, on either side.
            before: How much earlier it may be, if that differs; negative: it must be so much later.
            after: How much later it may be, if that differs; negative: it must be so much earlier.
            grace: How long to wait for records that come late.

        Raises:
            ValueError: A negative time difference or grace, or a window that ends before it begins.
        """
        difference_ms, grace_ms = to_ms(time_difference), to_ms(grace)
        before_ms = difference_ms if before is None else to_ms(before)
        after_ms = difference_ms if after is None else to_ms(after)
        if difference_ms < 0:
            msg = f"the time difference of a join cannot be negative: {time_difference!r}; before and after can be"
            raise ValueError(msg)
        if before_ms + after_ms < 0:
            msg = f"a join's window ends before it begins: before={before!r} and after={after!r} sum to less than 0"
            raise ValueError(msg)
        if grace_ms < 0:
            msg = f"a window's grace cannot be negative: {grace!r}"
            raise ValueError(msg)
        return cls(before_ms, after_ms, grace_ms)

    @property
    def size_ms(self) -> int:
        """From the earliest to the latest record that one record can be joined with."""
        return self.before_ms + self.after_ms

    @property
    def retention_ms(self) -> int:
        """How long a record can find a match: the size and the grace."""
        return self.size_ms + self.grace_ms


FixedWindows = TimeWindows | SlidingWindows | UnlimitedWindows
"""Windows that a record is put into by its own time alone, and whose length is known."""


@dataclass(frozen=True)
class SessionWindows:
    """For each key, records that follow each other within the inactivity gap; the window grows with them.

    A window ``[first, last]`` includes the times of its first and its last record. A record that lies within the gap
    of several windows merges them. A window is closed once its end is older than stream time minus gap and grace.

    Source: KIP-94.
    """

    gap_ms: int
    grace_ms: int = 0

    @classmethod
    def of(cls, inactivity_gap: timedelta, *, grace: timedelta = timedelta()) -> "SessionWindows":
        """Windows that end when a key has had no record for longer than ``inactivity_gap``.

        Raises:
            ValueError: A gap that is not positive, or a negative grace.
        """
        gap_ms, grace_ms = to_ms(inactivity_gap), to_ms(grace)
        if gap_ms <= 0:
            msg = f"the inactivity gap of session windows must be at least 1 ms, not {inactivity_gap!r}"
            raise ValueError(msg)
        if grace_ms < 0:
            msg = f"a window's grace cannot be negative: {grace!r}"
            raise ValueError(msg)
        return cls(gap_ms, grace_ms)

    @property
    def default_retention_ms(self) -> int:
        """How long a store must keep a session after its end."""
        return self.gap_ms + self.grace_ms
