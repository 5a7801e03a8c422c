"""How many records to process before the event loop gets its turn: a time budget, turned into a row count.

The time per row is measured for each sub-topology and smoothed; the first runs are short, so that slow user code is
found out before it holds the loop. Next: `task`, which takes that many rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from streamlib.clock import Clock

FIRST_ROWS = 64
MAX_ROWS = 20_000
GROWTH = 4
SHARE = 0.4  # of the budget, since the time per row varies


@dataclass
class Pace:
    """One measured run: fill in what it did."""

    rows: int = 0
    group: int = 0


class Pacing:
    """Rows per run for each group of tasks.

    Args:
        clock: Measures.
        budget_ms: The loop is not held longer.
    """

    def __init__(self, clock: Clock, budget_ms: int) -> None:
        self._clock = clock
        self._target = budget_ms / 1000 * SHARE
        self._rows: dict[int, int] = {}

    def rows(self, group: int) -> int:
        """How many rows the next run of ``group`` may take."""
        return self._rows.get(group, FIRST_ROWS)

    @contextmanager
    def measured(self) -> Iterator[Pace]:
        """Measure a run and learn from it."""
        pace = Pace()
        began = self._clock.monotonic()
        yield pace
        if pace.rows:
            self._learn(pace, self._clock.monotonic() - began)

    def _learn(self, pace: Pace, seconds: float) -> None:
        before = self.rows(pace.group)
        fitting = MAX_ROWS if seconds <= 0 else int(self._target * pace.rows / seconds)
        self._rows[pace.group] = max(1, min(fitting, before * GROWTH, MAX_ROWS))
