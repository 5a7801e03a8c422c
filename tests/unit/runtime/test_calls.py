import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from streamlib.record import TopicPartition
from streamlib.runtime.calls import Calls
from streamlib.topology.async_nodes import CallPolicy

PATIENT = CallPolicy(timeout_ms=10_000)
TP = TopicPartition("in", 0)


class Clock:
    """Sleeps no longer than it takes to write down for how long it should."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def time_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Ends:
    """What calls have ended with, and how often somebody was woken for it."""

    def __init__(self, calls: Calls) -> None:
        self.results: list[Any] = []
        self.errors: list[Exception] = []
        self.woken = 0
        self._some = asyncio.Event()
        calls.wake = self._wake

    def __call__(self, result: Any, error: Exception | None) -> bool:
        self._some.set()
        if error is not None:
            self.errors.append(error)
        else:
            self.results.append(result)
        return True

    async def one(self) -> None:
        async with asyncio.timeout(5):
            await self._some.wait()
        self._some.clear()

    def _wake(self) -> None:
        self.woken += 1


def failing(times: int, error: type[Exception] = OSError) -> Callable[[], Awaitable[int]]:
    tries = 0

    async def function() -> int:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise error(f"try {tries}")
        return tries

    return function


async def test_a_result_wakes_whoever_hands_it_on() -> None:
    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(failing(0), PATIENT, ends)
    assert ends.results == []
    await ends.one()
    assert (ends.results, ends.errors, ends.woken) == ([1], [], 1)


async def test_nobody_is_woken_when_nothing_can_be_handed_on() -> None:
    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(failing(0), PATIENT, lambda result, error: bool(ends(result, error)) and False)
    await ends.one()
    assert (ends.results, ends.woken) == ([1], 0)


async def test_a_failed_call_is_tried_again_with_longer_and_longer_pauses() -> None:
    clock = Clock()
    calls = Calls("0_0", clock)
    ends = Ends(calls)
    calls.begin(failing(4), CallPolicy(10_000, retries=4, backoff_ms=100), ends)
    await ends.one()
    assert ends.results == [5]
    assert all(
        longest / 2 <= pause <= longest for pause, longest in zip(clock.slept, (0.1, 0.2, 0.4, 0.8), strict=True)
    )


async def test_pauses_end_at_a_minute_and_differ_from_call_to_call() -> None:
    clock = Clock()
    calls = Calls("0_0", clock)
    ends = Ends(calls)
    for _ in range(20):
        calls.begin(failing(1), CallPolicy(10_000, retries=1, backoff_ms=10**9), ends)
    while len(ends.results) < 20:
        await ends.one()
    assert all(30 <= pause <= 60 for pause in clock.slept)
    assert len({round(pause, 3) for pause in clock.slept}) > 10


async def test_the_last_failure_is_told_when_no_retry_is_left() -> None:
    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(failing(9), CallPolicy(10_000, retries=2, backoff_ms=0), ends)
    await ends.one()
    assert [str(error) for error in ends.errors] == ["try 3"]


async def test_an_attempt_that_takes_too_long_has_failed_and_is_tried_again() -> None:
    tries = 0

    async def slow_at_first() -> int:
        nonlocal tries
        tries += 1
        await asyncio.sleep(10 if tries < 3 else 0)
        return tries

    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(slow_at_first, CallPolicy(20, retries=1, backoff_ms=0), ends)
    await ends.one()
    assert [(type(error), str(error)) for error in ends.errors] == [(TimeoutError, "no result within 20 ms")]
    calls.begin(slow_at_first, CallPolicy(20, retries=1, backoff_ms=0), ends)
    await ends.one()
    assert ends.results == [3]


async def test_a_timeout_of_the_function_s_own_keeps_its_words() -> None:
    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(failing(1, TimeoutError), PATIENT, ends)
    await ends.one()
    assert str(ends.errors[0]) == "try 1"


async def test_a_function_that_is_not_asynchronous_is_told_apart_and_not_tried_again() -> None:
    tries: list[int] = []

    def plain() -> Any:
        tries.append(1)
        return 5

    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(plain, CallPolicy(10_000, retries=3, backoff_ms=0), ends)
    await ends.one()
    assert "must be asynchronous, but gave 5" in str(ends.errors[0])
    assert tries == [1]


async def test_a_call_that_cancels_itself_has_failed() -> None:
    async def itself() -> int:
        raise asyncio.CancelledError

    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.begin(itself, PATIENT, ends)
    await ends.one()
    assert "cancelled" in str(ends.errors[0])


async def test_cancelled_calls_tell_nothing_and_hold_nothing() -> None:
    seen: list[str] = []

    async def stubborn() -> int:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")
            raise OSError("late") from None
        return 1

    calls = Calls("0_0", Clock())
    ends = Ends(calls)
    calls.hold(TP, 5)
    calls.must_end = True
    assert not calls.settled()
    calls.begin(stubborn, PATIENT, ends)
    await asyncio.sleep(0)
    calls.cancel()
    assert (calls.progress.rows, calls.holding) == (0, False)
    await calls.gone(5)
    assert seen == ["cleaned up"]
    assert (ends.results, ends.errors) == ([], [])


async def test_a_commit_waits_only_where_calls_must_end_and_while_there_are_some() -> None:
    calls = Calls("0_0", Clock())
    assert calls.settled()
    calls.hold(TP, 5)
    assert calls.settled()
    calls.must_end = True
    assert not calls.settled()
    assert calls.holding
    calls.release(TP, 5)
    assert calls.settled()
    assert not calls.holding


def test_deferred_calls_begin_when_they_are_run_with_those_that_follow_from_them() -> None:
    clock = Clock()
    calls = Calls("0_0", clock)
    calls.deferred = True
    results: list[int] = []

    def ended(result: int, error: Exception | None) -> bool:
        results.append(result)
        if len(results) < 3:
            calls.begin(failing(1), CallPolicy(1_000, retries=1), ended)
        return True

    calls.begin(failing(0), PATIENT, ended)
    assert results == []
    asyncio.run(calls.run())
    assert results == [1, 2, 2]
    assert clock.slept == []
