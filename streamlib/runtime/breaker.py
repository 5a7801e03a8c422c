"""Stops a worker when too large a share of its records fails: then the fault is hardly in the records.

Next: `record_errors`, which asks before it leaves a record out.
"""

from collections import deque

from streamlib.clock import Clock

WINDOW_SECONDS = 60
FAILED_MIN = 10


class Breaker:
    """Counts the records of the last minute, and those of them that failed.

    Args:
        max_share: Trips when a larger share fails; 1 never does.
        clock: Time.
    """

    def __init__(self, max_share: float, clock: Clock) -> None:
        self.max_share = max_share
        self._clock = clock
        self._seconds: deque[list[int]] = deque()  # second, records, failed ones

    def took(self, records: int) -> None:
        """Records are about to be processed."""
        if self.max_share < 1:
            self._now()[1] += records

    def failed(self) -> tuple[int, int] | None:
        """One of them has failed; how many have, and of how many, if that is too much.

        Fewer than ten failures are never too much, so that a worker with little to do is not stopped by one.
        """
        if self.max_share >= 1:
            return None
        self._now()[2] += 1
        failed, records = sum(second[2] for second in self._seconds), sum(second[1] for second in self._seconds)
        records = max(records, failed)
        return (failed, records) if failed >= FAILED_MIN and failed > self.max_share * records else None

    def _now(self) -> list[int]:
        now = int(self._clock.monotonic())
        if not self._seconds or self._seconds[-1][0] != now:
            self._seconds.append([now, 0, 0])
            while self._seconds[0][0] <= now - WINDOW_SECONDS:
                self._seconds.popleft()
        return self._seconds[-1]
