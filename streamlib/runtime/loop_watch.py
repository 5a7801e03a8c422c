"""How late the event loop is, and what holds it: heartbeats, commits and everything else on it wait meanwhile.

A coroutine that sleeps measures by how much it oversleeps. It also tells a thread that it lives; when it does not for a
second, the thread looks at what the loop's thread is doing and names it. In between, the thread costs nothing that can
be measured.

Next: `culprit`, which reads the stack; `health`, which tells how late the loop is.
"""

import logging
import sys
import threading

from streamlib.clock import Clock
from streamlib.metrics import Metrics
from streamlib.runtime.culprit import culprit
from streamlib.runtime.rarely import Rarely

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.2
HELD_SECONDS = 1.0  # from then on it is told
MAX_OVER_SECONDS = 60.0


class HoldSampler:
    """A thread that looks at the loop's thread whenever that misses its beats.

    It counts its own turns, so a process that stood still as a whole does not count as held.

    Args:
        clock: For telling rarely.
        held_seconds: The loop counts as held after so long.
    """

    def __init__(self, clock: Clock, held_seconds: float = HELD_SECONDS) -> None:
        self._rarely = Rarely(clock)
        self._turns = max(1, round(held_seconds / BEAT_SECONDS))
        self._beats = 0
        self._found: str | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Watch the thread that calls this."""
        arguments = (threading.get_ident(),)
        threading.Thread(target=self._watch, args=arguments, name="streamlib loop watch", daemon=True).start()

    def beat(self) -> str | None:
        """The loop has its turn; what held it since the last beat, if it was for long and could be found out."""
        self._beats += 1
        found, self._found = self._found, None
        return found

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

    def _watch(self, watched: int) -> None:
        seen, missed = self._beats, 0
        while not self._stopped.wait(BEAT_SECONDS):
            missed = missed + 1 if self._beats == seen else 0
            seen = self._beats
            if missed == self._turns:
                self._look(watched, missed * BEAT_SECONDS)

    def _look(self, watched: int, seconds: float) -> None:
        frame = sys._current_frames().get(watched)
        if frame is None:
            return
        self._found = culprit(frame)
        if self._rarely.now():
            log.warning(
                "the event loop is held for more than %.1f s by %s: no heartbeats, commits or polls meanwhile. "
                "Make it faster, or asynchronous",
                seconds,
                self._found,
            )


class LoopWatch:
    """Measures the event loop it runs on.

    Args:
        clock: Time.
        metrics: Where the lag is shown.
        sampler: Finds out what holds the loop; None where time is not real.

    Attributes:
        lag_seconds: By how much the last sleep was longer than it should have been.
        held_by: What last held the loop for long.
    """

    def __init__(self, clock: Clock, metrics: Metrics, sampler: HoldSampler | None = None) -> None:
        self.lag_seconds = 0.0
        self.held_by: str | None = None
        self._clock = clock
        self._metrics = metrics
        self._sampler = sampler
        self._rarely = Rarely(clock)
        self._worst = (0.0, 0.0)  # of this minute, and of the one before
        self._minute_ends = clock.monotonic() + MAX_OVER_SECONDS

    @property
    def max_lag_seconds(self) -> float:
        """The highest lag of the last one to two minutes."""
        return max(self._worst)

    async def follow(self) -> None:
        """Measure without end."""
        if self._sampler is not None:
            self._sampler.start()
        try:
            while True:
                due = self._clock.monotonic() + BEAT_SECONDS
                await self._clock.sleep(BEAT_SECONDS)
                self._note(max(0.0, self._clock.monotonic() - due))
        finally:
            if self._sampler is not None:
                self._sampler.stop()

    def _note(self, lag: float) -> None:
        found = None if self._sampler is None else self._sampler.beat()
        now = self._clock.monotonic()
        if now >= self._minute_ends:
            self._worst = (0.0, self._worst[0])
            self._minute_ends = now + MAX_OVER_SECONDS
        self._worst = (max(lag, self._worst[0]), self._worst[1])
        self.lag_seconds = lag
        self._metrics.gauge("loop_lag_seconds", lag)
        self._metrics.gauge("loop_lag_max_seconds", self.max_lag_seconds)
        if lag < HELD_SECONDS:
            return
        self.held_by = found or "code that keeps the interpreter to itself; or the whole process stood still"
        if self._rarely.now():
            log.warning("the event loop was held for %.1f s by %s", lag, self.held_by)
