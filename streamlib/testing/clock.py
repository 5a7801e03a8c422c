"""A clock that only a test moves. Next: `topology_test_driver`, which runs on it."""

import asyncio


class ManualClock:
    """Wall-clock and monotonic time that stand still between calls of `advance_ms`; implements `clock.Clock`.

    Args:
        now_ms: Where it starts, in ms since the epoch.
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._now_ms

    def monotonic(self) -> float:
        """The same in seconds."""
        return self._now_ms / 1000

    async def sleep(self, seconds: float) -> None:
        """Move the clock by ``seconds``, and give other coroutines their turn."""
        self._now_ms += round(seconds * 1000)
        await asyncio.sleep(0)

    def advance_ms(self, by_ms: int) -> None:
        """Move the clock."""
        self._now_ms += by_ms
