"""Runs get as long as the budget allows, whatever a row costs."""

import pytest

from streamlib.runtime.pacing import FIRST_ROWS, MAX_ROWS, Pacing


class SteppedClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def runs(seconds_per_row: float, count: int) -> list[int]:
    clock = SteppedClock()
    pacing = Pacing(clock, budget_ms=50)
    taken = []
    for _ in range(count):
        with pacing.measured() as pace:
            pace.rows = pacing.rows(0)
            clock.now += pace.rows * seconds_per_row
        taken.append(pace.rows)
    return taken


@pytest.mark.parametrize("seconds_per_row", [1e-6, 1e-4, 1e-3])
def test_runs_settle_below_the_budget(seconds_per_row: float) -> None:
    taken = runs(seconds_per_row, 10)
    assert taken[0] == FIRST_ROWS
    assert taken[-1] * seconds_per_row <= 0.05
    assert taken[-1] == MAX_ROWS or taken[-1] * seconds_per_row > 0.01


def test_rows_that_take_longer_than_the_budget_come_one_at_a_time() -> None:
    assert runs(0.2, 3)[-1] == 1


def test_groups_are_measured_apart() -> None:
    clock = SteppedClock()
    pacing = Pacing(clock, budget_ms=50)
    with pacing.measured() as pace:
        pace.rows, pace.group = 64, 1
        clock.now += 1.0
    assert pacing.rows(1) < FIRST_ROWS
    assert pacing.rows(2) == FIRST_ROWS
