import pytest

from streamlib.runtime.punctuation import Punctuations
from streamlib.testing.clock import ManualClock
from streamlib.topology.processor_api import PunctuationType

STREAM, WALL = PunctuationType.STREAM_TIME, PunctuationType.WALL_CLOCK_TIME


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000)


@pytest.fixture
def timers(clock: ManualClock) -> Punctuations:
    return Punctuations(clock)


def test_stream_time_fires_first_at_the_first_record_and_skips_what_was_missed(timers: Punctuations) -> None:
    fired: list[int] = []
    timers.schedule(10, STREAM, fired.append)
    for now in (3, 9, 10, 19, 45, 49, 50, 51):
        timers.fire(STREAM, now)
    assert fired == [3, 10, 45, 50]


def test_those_that_fire_together_do_so_in_order_and_say_whether_they_did_anything(
    timers: Punctuations, clock: ManualClock
) -> None:
    fired: list[tuple[str, int]] = []

    def one(now: int) -> bool:
        fired.append(("a", now))
        return False

    def other(now: int) -> bool:
        fired.append(("b", now))
        return now > 1010

    timers.schedule_together(10, WALL, one)
    clock.advance_ms(5)
    timers.schedule_together(10, WALL, other)
    assert [timers.fire(WALL, now) for now in (1010, 1015, 1020)] == [False, False, True]
    assert fired == [("a", 1010), ("b", 1010), ("a", 1020), ("b", 1020)]
    timers.clear()
    timers.schedule_together(10, WALL, lambda now: True)
    assert timers.due(WALL) == 1015


def test_the_wall_clock_fires_first_after_one_interval_and_skips_what_was_missed(timers: Punctuations) -> None:
    fired: list[int] = []
    timers.schedule(10, WALL, fired.append)
    assert timers.due(WALL) == 1010
    assert [timers.fire(WALL, now) for now in (1009, 1010, 1011, 1047, 1049, 1050)] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert fired == [1010, 1047, 1050]


def test_schedules_of_several_intervals_fire_in_the_order_they_are_due(timers: Punctuations) -> None:
    fired: list[str] = []
    timers.schedule(10, STREAM, lambda now: fired.append(f"p{now}"))
    timers.schedule(7, STREAM, lambda now: fired.append(f"q{now}"))
    for now in (0, 7, 9, 14, 20, 21, 70):
        timers.fire(STREAM, now)
    assert fired == ["p0", "q0", "q7", "p14", "q14", "p20", "q21", "q70", "p70"]


def test_a_schedule_never_fires_again_when_it_is_cancelled(timers: Punctuations) -> None:
    fired: list[int] = []

    def once(now: int) -> None:
        fired.append(now)
        schedule.cancel()

    schedule = timers.schedule(10, STREAM, once)
    other = timers.schedule(10, STREAM, fired.append)
    other.cancel()
    assert [timers.fire(STREAM, now) for now in (0, 10, 20)] == [True, False, False]
    assert fired == [0]
    assert timers.due(STREAM) is None


def test_a_schedule_made_by_a_punctuator_fires_at_once_when_stream_time_drives_it(timers: Punctuations) -> None:
    fired: list[tuple[str, int]] = []

    def first(now: int) -> None:
        fired.append(("first", now))
        if now == 5:
            timers.schedule(3, STREAM, lambda now: fired.append(("second", now)))

    timers.schedule(100, STREAM, first)
    timers.fire(STREAM, 5)
    timers.fire(STREAM, 6)
    assert fired == [("first", 5), ("second", 5), ("second", 6)]


@pytest.mark.parametrize(
    ("first", "end"),
    [(0, 3), (3, 5), (5, 6)],
)
def test_records_are_cut_behind_the_one_that_makes_a_schedule_due(timers: Punctuations, first: int, end: int) -> None:
    timers.schedule(10, STREAM, lambda _: None)
    timers.fire(STREAM, 12)
    assert timers.due(STREAM) == 20
    assert timers.rows_until_due([11, 5, 20, 7, 30, 19], first) == end


def test_records_are_not_cut_when_there_is_no_schedule_by_stream_time(timers: Punctuations) -> None:
    timers.schedule(10, WALL, lambda _: None)
    assert timers.rows_until_due([1, 2, 3], 1) == 3


def test_nothing_fires_when_the_task_begins_anew(timers: Punctuations) -> None:
    timers.schedule(10, STREAM, lambda _: pytest.fail("fired"))
    timers.clear()
    assert not timers.fire(STREAM, 100)
