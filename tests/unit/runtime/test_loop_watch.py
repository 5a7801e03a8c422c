"""The loop's lag is measured, and who holds it is named while it does."""

import asyncio
import logging
import time

import pytest

from streamlib.clock import SystemClock
from streamlib.metrics import Metrics
from streamlib.runtime.loop_watch import BEAT_SECONDS, MAX_OVER_SECONDS, HoldSampler, LoopWatch
from streamlib.testing.clock import ManualClock


def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)


def gauges(metrics: Metrics) -> dict[str, float]:
    return {name: value for name, _, value in metrics}


@pytest.mark.slow
async def test_the_function_is_named_while_it_still_holds_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    clock, metrics = SystemClock(), Metrics()
    watch = LoopWatch(clock, metrics, HoldSampler(clock))
    following = asyncio.create_task(watch.follow())
    await asyncio.sleep(2 * BEAT_SECONDS)
    assert watch.held_by is None
    with caplog.at_level(logging.WARNING):
        hold_the_loop(2.0)
        assert [record.getMessage() for record in caplog.records if "in hold_the_loop (" in record.getMessage()]
    async with asyncio.timeout(5):
        while watch.held_by is None:
            await asyncio.sleep(0.01)
    assert "in hold_the_loop (" in watch.held_by
    assert gauges(metrics)["loop_lag_max_seconds"] == watch.max_lag_seconds > 1.5
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


class StandingStill(ManualClock):
    """A clock that jumps in its next sleep, as a process does that was frozen."""

    jump_ms = 0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.advance_ms(self.jump_ms)
        self.jump_ms = 0


async def test_the_highest_lag_is_kept_for_a_minute_when_the_loop_was_late(caplog: pytest.LogCaptureFixture) -> None:
    clock, metrics = StandingStill(), Metrics()
    watch = LoopWatch(clock, metrics)
    following = asyncio.create_task(watch.follow())

    async def until(seconds: float) -> None:
        end = clock.monotonic() + seconds
        while clock.monotonic() < end:
            await asyncio.sleep(0)

    await until(1)
    assert watch.max_lag_seconds == pytest.approx(0)
    clock.jump_ms = 3_000
    await until(5)
    assert (watch.lag_seconds, watch.max_lag_seconds) == (pytest.approx(0), pytest.approx(3.0))
    assert watch.held_by is not None
    assert "the event loop was held for 3.0 s" in caplog.text
    await until(MAX_OVER_SECONDS - 6)
    assert watch.max_lag_seconds == pytest.approx(3.0)
    await until(2 * MAX_OVER_SECONDS)
    assert watch.max_lag_seconds == gauges(metrics)["loop_lag_max_seconds"] == pytest.approx(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
