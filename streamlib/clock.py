"""Time as a constructor argument: production code takes a Clock and never asks the operating system itself."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time, and the way to let it pass."""

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock's time."""


class SystemClock:
    """The operating system's clock; the only caller of ``time`` in production code."""

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` on the running event loop."""
        await asyncio.sleep(seconds)
