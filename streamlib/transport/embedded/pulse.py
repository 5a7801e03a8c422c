"""How waiting coroutines of one event loop hear that something has happened."""

import asyncio

from streamlib.clock import Clock


class Pulse:
    """A bell: `wait` returns when it has rung since the moment named by ``seen``.

    To miss nothing, read `rung` before looking for what one waits for, and pass it to `wait` when it is not there.
    """

    def __init__(self) -> None:
        self.rung = 0
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        """Wake everyone who waits, in the order they came."""
        self.rung += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _wake(future)

    async def wait(self, seen: int, clock: Clock, seconds: float) -> None:
        """Return at the next ring, at once when it rang since ``seen``, or after ``seconds`` of ``clock``.

        It always returns by way of the clock: a process whose time stands still in a simulation hears nothing.
        """
        if self.rung == seen and seconds > 0:
            await self._wait(clock, seconds)
        await clock.sleep(0)

    async def _wait(self, clock: Clock, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        timer = asyncio.ensure_future(clock.sleep(seconds))
        timer.add_done_callback(lambda _: _wake(future))
        try:
            await future
        finally:
            timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
