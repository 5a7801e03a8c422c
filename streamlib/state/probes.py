"""What a batch of one side of a stream-stream join looks for among the rows of the other side: keys and ranges of time.

Few probes find a key at all, so a range is worked out only when it is asked for. Next: `recent_rows` and `staged_rows`,
which are looked into; `join_window`, which makes these.
"""

from collections.abc import Sequence


class Probes:
    """Keys, and around the time of each the range in which rows of that key match.

    Args:
        keys: Serialized keys; None for no key, which matches none.
        timestamps: Their times (ms); one at least.
        before_ms: How far back a range goes.
        after_ms: How far ahead.
        live_from: For each probe, from which time (ms) on rows can be read; None when that cuts off nothing.

    Attributes:
        keys: Likewise.
        earliest: No range begins before this.
        latest: None ends after this.
    """

    __slots__ = ("_after_ms", "_before_ms", "_live_from", "_timestamps", "earliest", "keys", "latest")

    def __init__(
        self,
        keys: Sequence[bytes | None],
        timestamps: Sequence[int],
        before_ms: int,
        after_ms: int,
        live_from: Sequence[int] | None = None,
    ) -> None:
        self.keys = keys
        self._timestamps = timestamps
        self._before_ms = before_ms
        self._after_ms = after_ms
        self._live_from = live_from
        self.earliest = min(timestamps) - before_ms
        self.latest = max(0, max(timestamps) + after_ms)

    def __len__(self) -> int:
        return len(self.keys)

    def range(self, probe: int) -> tuple[int, int]:
        """The first and the last time (ms) of a probe's range; it may be empty."""
        time = self._timestamps[probe]
        first, last = time - self._before_ms, time + self._after_ms
        if self._live_from is not None and first < self._live_from[probe]:
            first = self._live_from[probe]
        return first, last if last > 0 else 0

    def of(self, probes: Sequence[int]) -> "Probes":
        """Some of them."""
        live_from = None if self._live_from is None else [self._live_from[probe] for probe in probes]
        return Probes(
            [self.keys[probe] for probe in probes],
            [self._timestamps[probe] for probe in probes],
            self._before_ms,
            self._after_ms,
            live_from,
        )
