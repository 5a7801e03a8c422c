from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from streamlib.record import MAX_TIME_MS
from streamlib.topology.windows import SessionWindows, SlidingWindows, UnlimitedWindows

SECOND = timedelta(seconds=1)


def test_sliding_windows_are_kept_for_twice_their_difference_and_the_grace() -> None:
    windows = SlidingWindows.of(3 * SECOND, grace=2 * SECOND)
    assert windows == SlidingWindows(3_000, 2_000)
    assert (windows.size_ms, windows.default_retention_ms) == (3_000, 8_000)
    assert SlidingWindows.of(SECOND).grace_ms == 0


@pytest.mark.parametrize(
    ("difference", "grace", "problem"),
    [
        (timedelta(), timedelta(), "at least 1 ms"),
        (-SECOND, timedelta(), "at least 1 ms"),
        (SECOND, -SECOND, "cannot be negative"),
    ],
)
def test_sliding_windows_are_refused_when_they_make_no_sense(
    difference: timedelta, grace: timedelta, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        SlidingWindows.of(difference, grace=grace)


def test_sliding_windows_are_refused_when_their_difference_is_a_number() -> None:
    with pytest.raises(TypeError, match="timedelta"):
        SlidingWindows.of(1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "start_ms"),
    [
        (None, 0),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 1, 0, 1, tzinfo=timezone(timedelta(hours=1))), 1_000),
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000),
    ],
)
def test_an_unlimited_window_has_the_records_from_its_start_on(start: datetime | None, start_ms: int) -> None:
    windows = UnlimitedWindows.of(start=start)
    assert windows.start_ms == start_ms
    assert list(windows.starts(start_ms)) == list(windows.starts(MAX_TIME_MS)) == [start_ms]
    assert list(windows.starts(start_ms - 1)) == []
    assert (windows.size_ms, windows.grace_ms, windows.default_retention_ms) == (MAX_TIME_MS, 0, MAX_TIME_MS)


@pytest.mark.parametrize(
    ("start", "error", "problem"),
    [
        (1_000, TypeError, "must be a datetime"),
        (datetime(2026, 1, 1), ValueError, "needs a time zone"),
        (datetime(1969, 12, 31, tzinfo=UTC), ValueError, "before 1970"),
    ],
)
def test_an_unlimited_window_is_refused_when_its_start_makes_no_sense(
    start: object, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        UnlimitedWindows.of(start=start)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"inactivity_gap": timedelta()}, "must be at least 1 ms"),
        ({"inactivity_gap": timedelta(seconds=1), "grace": timedelta(seconds=-1)}, "cannot be negative"),
    ],
)
def test_session_windows_are_refused_when_a_duration_makes_no_sense(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SessionWindows.of(**arguments)


def test_sessions_are_kept_for_gap_and_grace() -> None:
    windows = SessionWindows.of(timedelta(seconds=1), grace=timedelta(seconds=2))
    assert (windows.gap_ms, windows.grace_ms, windows.default_retention_ms) == (1_000, 2_000, 3_000)
