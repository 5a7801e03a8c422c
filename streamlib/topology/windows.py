"""Window definitions: sizes in ms, made once from timedeltas at the DSL's edge. Next: `nodes`, which hold them."""

from dataclasses import dataclass
from datetime import timedelta


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
