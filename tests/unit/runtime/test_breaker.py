from streamlib.runtime.breaker import Breaker
from streamlib.testing.clock import ManualClock


def failures(breaker: Breaker, count: int) -> tuple[int, int] | None:
    found = None
    for _ in range(count):
        found = breaker.failed()
    return found


def test_it_trips_when_more_than_the_share_of_the_last_minute_fails() -> None:
    breaker = Breaker(0.1, ManualClock())
    breaker.took(1_000)
    assert failures(breaker, 100) is None
    assert breaker.failed() == (101, 1_000)


def test_what_is_older_than_a_minute_does_not_count() -> None:
    clock = ManualClock()
    breaker = Breaker(0.1, clock)
    breaker.took(1_000)
    failures(breaker, 100)
    clock.advance_ms(59_000)
    assert breaker.failed() == (101, 1_000)
    clock.advance_ms(1_500)
    breaker.took(30)
    assert failures(breaker, 8) is None
    assert breaker.failed() == (10, 30)  # one of them from before
    clock.advance_ms(60_000)
    breaker.took(10)
    assert failures(breaker, 9) is None
    assert breaker.failed() == (10, 10)


def test_a_few_failures_never_trip_it() -> None:
    breaker = Breaker(0.01, ManualClock())
    breaker.took(9)
    assert failures(breaker, 9) is None


def test_it_counts_nothing_when_it_is_off() -> None:
    breaker = Breaker(1.0, ManualClock())
    assert failures(breaker, 100) is None
    assert not breaker._seconds
