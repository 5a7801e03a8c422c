"""An event loop for the asynchronous functions of a topology under test. Next: `topology_test_driver`, its caller."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from streamlib.runtime.task import Task

ALL_ROWS = 1 << 62


class PrivateLoop:
    """Runs coroutines to their end, for a caller that is not asynchronous but may be called by code that is.

    All of them run on one loop, so that they can share clients. It runs in the caller's thread, or, if a loop runs
    there already, in another one while the caller waits.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def finish_calls(self, task: Task) -> bool:
        """Make the asynchronous calls that a task waits for, and hand on what they give; whether there were any."""
        handed_on = False
        while task.calls.progress.rows:
            self.run(task.calls.run)
            handed_on = task.calls.hand_on(ALL_ROWS) or handed_on
        return handed_on

    def run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Return when the coroutine that ``function`` makes has ended; raises what it raises."""
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        runner = self._runner
        _where_no_loop_runs(lambda: runner.run(function()))

    def close(self) -> None:
        """Close the loop, if there ever was one."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            _where_no_loop_runs(runner.close)


def _where_no_loop_runs(function: Callable[[], None]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        function()
    else:
        with ThreadPoolExecutor(1, "streamlib-test-calls") as thread:
            thread.submit(function).result()
