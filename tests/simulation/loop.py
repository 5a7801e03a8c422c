"""An event loop without an operating system: virtual time, several processes, and one seed that decides what is next.

Every callback belongs to a process, which is found in its context, so whatever a process starts is its own. Inside a
process callbacks run in the order in which they became ready, as on a real loop; between processes chance decides.
A process can stand still (its callbacks wait, the world goes on) and be killed (its callbacks never run again: no
`finally` is reached). Time passes when nobody has anything to do, and a little with each callback.

Next: `network`, through which processes meet.
"""

import asyncio
import heapq
import random
import zlib
from asyncio import Future, Handle, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

CALLBACK_SECONDS = 5e-6
EPOCH_SECONDS = 1_700_000_000.0
SEED_FACTOR = 1_000_003


class Process:
    """What a crash ends and a stop signal freezes.

    Attributes:
        name: For traces.
        steps: How many of its callbacks have run.
        on_step: Called before each callback, with the process; it may freeze or kill it.
    """

    def __init__(self, loop: "SimulationLoop", name: str) -> None:
        self.name = name
        self.steps = 0
        self.alive = True
        self.frozen = False
        self.on_step: Callable[[Process], None] | None = None
        self._loop = loop
        self.ready: deque[Handle] = deque()
        self.context = copy_context()
        self.context.run(CURRENT.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> "asyncio.Task[Any]":
        """Start a task of this process."""
        return self._loop.create_task(work, name=name or self.name, context=self.context.copy())

    def kill(self) -> None:
        """As SIGKILL: nothing of it runs again."""
        self.alive = False
        self._loop.note("killed", self.name)

    def freeze(self) -> None:
        """As SIGSTOP."""
        self.frozen = True
        self._loop.note("frozen", self.name)

    def thaw(self) -> None:
        """As SIGCONT."""
        self.frozen = False
        self._loop.note("thawed", self.name)

    @property
    def runnable(self) -> bool:
        """Whether one of its callbacks may run now."""
        return self.alive and not self.frozen and bool(self.ready)


CURRENT: ContextVar[Process] = ContextVar("process")


_Base: Any = asyncio.AbstractEventLoop  # its methods that are not here raise NotImplementedError


class SimulationLoop(_Base):  # type: ignore[misc]
    """The loop; what needs sockets, signals or threads raises NotImplementedError.

    Args:
        seed: Decides everything that is left to chance; see `random`.

    Attributes:
        random: The one source of chance.
        world: The process that whatever has no other belongs to: broker, network, the scenario itself.
        trace: A hash of everything that has happened so far.
        log: What has happened, when it is wanted: `keep_log`.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed * SEED_FACTOR)
        self.trace = 0
        self.log: list[str] | None = None
        self._now = EPOCH_SECONDS
        self._order = 0
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._stopping = False
        self._running = False
        self._closed = False
        self._failures: list[BaseException | str] = []
        self.world = Process(self, "world")
        self.processes = [self.world]

    def process(self, name: str) -> Process:
        """A new process."""
        made = Process(self, name)
        self.processes.append(made)
        return made

    def keep_log(self) -> None:
        """Keep what `note` is told, to be read."""
        self.log = []

    def note(self, *what: object) -> None:
        """Something that has happened: it becomes part of the trace."""
        text = f"{self._now - EPOCH_SECONDS:.6f} {' '.join(map(str, what))}"
        self.trace = zlib.crc32(text.encode(), self.trace)
        if self.log is not None:
            self.log.append(text)

    def failures(self) -> list[BaseException | str]:
        """What went wrong where nobody was there to hear it."""
        return self._failures

    # ---- time and callbacks -----------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:
        """Put a callback at the end of its process's queue."""
        handle = Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Call after ``delay`` virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Call at a virtual time."""
        timer = TimerHandle(when, callback, args, self, context)
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, timer))
        return timer

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Nothing to do: it is left out when its time comes."""

    def _enqueue(self, handle: Handle) -> None:
        owner = handle._context.get(CURRENT, self.world)  # type: ignore[attr-defined]
        owner.ready.append(handle)

    def _advance(self, seconds: float) -> None:
        """Let time pass, and make the timers ready that are due."""
        self._now += seconds
        timers = self._timers
        while timers and (timers[0][0] <= self._now or timers[0][2].cancelled()):
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                self._enqueue(timer)

    def _step(self) -> None:
        runnable = [process for process in self.processes if process.runnable]
        if not runnable:
            self._advance(0)
            runnable = [process for process in self.processes if process.runnable]
        if not runnable:
            if not self._timers:
                raise RuntimeError("everyone waits, and nothing will ever happen")
            self._advance(max(0.0, self._timers[0][0] - self._now))
            return
        process = runnable[0] if len(runnable) == 1 else runnable[int(self.random.random() * len(runnable))]
        process.steps += 1
        if process.on_step is not None:
            process.on_step(process)
            if not process.runnable:
                return
        handle = process.ready.popleft()
        if not handle.cancelled():
            handle._run()
        self._advance(CALLBACK_SECONDS)

    # ---- running ----------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until `stop`."""
        self._running, self._stopping = True, False
        asyncio._set_running_loop(self)
        try:
            while not self._stopping:
                self._step()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def run_until_complete(self, future: Any) -> Any:
        """Run until a coroutine of the world has ended; returns what it gives."""
        task = future if isinstance(future, Future) else self.world.spawn(future)
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        return task.result()

    def stop(self) -> None:
        """End `run_forever` after this callback."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether it runs."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Take apart what is left of killed and unfinished processes, so that nothing of it is heard later."""
        self._failures = []
        for process in self.processes:
            process.alive, process.frozen, process.on_step = True, False, None
        for _ in range(1000):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left, timeout=60.0))
        self._closed = True
        self._timers.clear()
        for process in self.processes:
            process.ready.clear()

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there is none."""

    # ---- futures and tasks ------------------------------------------------------------------------------

    def create_future(self) -> "Future[Any]":
        """A future."""
        return Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":
        """A task, of the process that creates it."""
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > 1000:
            self._tasks = [task for task in self._tasks if not task.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Call at once: there are no threads."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody has heard, to be looked at in the end."""
        if not self._closed:
            self._failures.append(context.get("exception") or str(context.get("message")))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The same."""
        self.call_exception_handler(context)
