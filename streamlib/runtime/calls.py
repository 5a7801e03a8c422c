"""The asynchronous calls of a task: they run on the event loop beside the worker's, with timeouts and retries.

A call that has ended keeps its row until the task hands the result on; the worker is woken for that. Calls of work
that was dropped are cancelled, and what they give is forgotten.

Next: `operators/async_calls`, which begins them; `progress`, which keeps their records from being committed.
"""

import asyncio
import inspect
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from streamlib.clock import Clock
from streamlib.operators.base import AwaitingOperator
from streamlib.record import TopicPartition
from streamlib.runtime.progress import Progress
from streamlib.topology.async_nodes import CallPolicy

UNBOUNDED = 1 << 62
BACKOFF_MAX_MS = 60_000
CHANCE_SHARE = 0.5  # of the time before a retry, so that calls which failed together do not come again together

Function = Callable[[], Awaitable[Any]]
Ended = Callable[[Any, Exception | None], bool]


class NotAwaitableError(TypeError):
    """An asynchronous operation was given a function that is not."""


class Calls:
    """The calls of one task; implements `operators.base.Calls`.

    Args:
        task_id: Sets this task's retries apart from those of others.
        clock: For the time between retries.

    Attributes:
        progress: The rows whose calls have not been handed on.
        wake: Called when there are results to hand on.
        must_end: Whether a commit waits until no call is under way; see `topology/commit_waits`. Where output and
            offsets are committed in one transaction, all commits must.
        holding: A commit waits: until it was made no more records are to be taken.
        handed_on: Results went on since the last commit.
        deferred: Calls do not begin by themselves but in `run`, for those who have no event loop; retries follow at
            once then, and timeouts are in real time.
    """

    def __init__(self, task_id: object, clock: Clock) -> None:
        self.progress = Progress()
        self.wake: Callable[[], None] = _nobody
        self.must_end = False
        self.holding = False
        self.handed_on = False
        self.deferred = False
        self._operators: Sequence[AwaitingOperator] = ()
        self._task_id = task_id
        self._clock = clock
        self._begun = 0
        self._waiting: list[Callable[[], None]] = []
        self._running: set[asyncio.Task[Any]] = set()
        self._cancelled: set[asyncio.Task[Any]] = set()

    def connect(self, operators: Sequence[AwaitingOperator], *, must_end: bool) -> None:
        """Tell whose calls these are, upstream ones first."""
        self._operators = operators
        self.must_end = must_end

    @property
    def places(self) -> int:
        """How many rows the operators want, below 0 when they have more than that."""
        return min((operator.room for operator in self._operators), default=UNBOUNDED)

    @property
    def room(self) -> int:
        """How many records the task may take now."""
        return 0 if self.holding else max(0, self.places)

    def hand_on(self, rows_max: int) -> bool:
        """Forward results that have arrived, of at most ``rows_max`` rows; whether there were any.

        Raises:
            ProcessingError: A call has failed, or what comes after it, and the policy is to fail.
            SerdeError: A result does not fit the serde of a sink or store.
        """
        handed_on = [operator.hand_on(rows_max) for operator in self._operators]
        self.handed_on = self.handed_on or any(handed_on)
        return any(handed_on)

    def hold(self, tp: TopicPartition | None, offset: int | None) -> None:
        """A row is under way: the record it comes from must not be committed."""
        self.progress.hold(tp, offset)

    def release(self, tp: TopicPartition | None, offset: int | None) -> None:
        """What came of the row has gone on."""
        self.progress.release(tp, offset)

    def settled(self) -> bool:
        """Whether a commit can be made now; if not, it waits from now on."""
        self.holding = self.must_end and self.progress.rows > 0
        return not self.holding

    def hold_all(self) -> None:
        """Let a commit wait, if there can be calls at all."""
        self.holding = bool(self._operators)

    def begin(self, function: Function, policy: CallPolicy, ended: Ended) -> None:
        """Call a function on the event loop.

        Args:
            function: Called for each attempt.
            policy: Timeout and retries.
            ended: Told the result, or why the last attempt failed; whether there is something to hand on then.
        """
        self._begun += 1
        start = partial(self._start, function, policy, self._begun, ended)
        if self.deferred:
            self._waiting.append(start)
        else:
            start()

    def cancel(self) -> None:
        """Forget all calls."""
        self._waiting.clear()
        self.progress.clear()
        self.holding = self.handed_on = False
        running, self._running = self._running, set()
        for task in running:
            task.cancel()
        self._cancelled |= running

    async def gone(self, seconds: float) -> None:
        """Return when the calls that were cancelled have gone, at the latest after so long."""
        if self._cancelled:
            await asyncio.wait(self._cancelled, timeout=seconds)

    async def run(self) -> None:
        """Make the calls that were deferred, and those that begin when these end; return when all have ended."""
        while self._waiting or self._running:
            waiting, self._waiting = self._waiting, []
            for start in waiting:
                start()
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    def _start(self, function: Function, policy: CallPolicy, number: int, ended: Ended) -> None:
        task = asyncio.get_running_loop().create_task(self._attempts(function, policy, number))
        self._running.add(task)
        task.add_done_callback(partial(self._finish, ended))

    def _finish(self, ended: Ended, task: "asyncio.Task[Any]") -> None:
        ours = task in self._running
        self._running.discard(task)
        self._cancelled.discard(task)
        error: BaseException | None
        if task.cancelled():
            error = RuntimeError("the call was cancelled, but not by its task")
        else:
            error = task.exception()
        if not ours:
            return
        if error is not None and not isinstance(error, Exception):
            return  # the loop ends with it
        if ended(None if error is not None else task.result(), error):
            self.wake()

    async def _attempts(self, function: Function, policy: CallPolicy, number: int) -> Any:
        """What the function gives in the end; raises what the last attempt did."""
        failed = 0
        while True:
            try:
                return await _attempt(function, policy.timeout_ms)
            except NotAwaitableError:
                raise
            except Exception:
                if failed == policy.retries:
                    raise
            if not self.deferred:
                await self._clock.sleep(self._pause(policy.backoff_ms, failed, number))
            failed += 1

    def _pause(self, backoff_ms: int, failed: int, number: int) -> float:
        """Seconds before the next attempt: doubled each time, less a part that differs from call to call."""
        longest = min(backoff_ms << min(failed, 30), BACKOFF_MAX_MS)
        chance = zlib.crc32(f"{self._task_id}/{number}/{failed}".encode()) / 2**32
        return longest * (1 - CHANCE_SHARE * chance) / 1000


def longest_ms(policy: CallPolicy) -> int:
    """How long a call can take, with all its retries."""
    pauses = sum(min(policy.backoff_ms << min(failed, 30), BACKOFF_MAX_MS) for failed in range(policy.retries))
    return (policy.retries + 1) * policy.timeout_ms + pauses


async def _attempt(function: Function, timeout_ms: int) -> Any:
    limit = asyncio.timeout(timeout_ms / 1000)
    try:
        async with limit:
            answer: Any = function()
            if not inspect.isawaitable(answer):
                msg = f"the function must be asynchronous, but gave {answer!r}: write `async def`"
                raise NotAwaitableError(msg)
            return await answer
    except TimeoutError as error:
        if not limit.expired():
            raise
        msg = f"no result within {timeout_ms} ms"
        raise TimeoutError(msg) from error


def _nobody() -> None:
    """Wakes nobody."""
