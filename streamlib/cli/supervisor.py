"""Several worker processes on one machine: started, watched, restarted, and stopped together. Next: `worker`.

Each process is the same command with its slot (0, 1, ...) in the environment. The supervisor holds the other end of its
stdin: closing it asks the process to drain. That end also closes when the supervisor is killed, so no worker outlives
it. Processes are not signalled and have sessions of their own, so that Ctrl-C in a terminal reaches the supervisor
alone, and a service manager that signals every process does no harm: two signals would end a worker at once.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from streamlib.cli.exits import CONFIG, FAILURE, SIGNALLED, USAGE
from streamlib.cli.output import write_all
from streamlib.clock import Clock, SystemClock

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class RestartPolicy:
    """When a worker that ended by itself is started again.

    Attributes:
        crashes: So many crashes of one slot ...
        within_seconds: ... within this time end everything.
        first_seconds: Pause before the first restart; it doubles with every crash within that time.
        longest_seconds: The pause grows no longer than this.
    """

    crashes: int = 5
    within_seconds: float = 60.0
    first_seconds: float = 0.5
    longest_seconds: float = 10.0


class Supervisor:
    """Keeps worker processes running.

    Args:
        command: What each process runs.
        processes: How many.
        slot_variable: Environment variable that tells a process its slot.
        drain_seconds: How long a stopping process may take before it is killed.
        prefixed: Whether to put ``[slot] `` before each line that a process writes.
        policy: When to restart.
        clock: Time.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        *,
        slot_variable: str,
        drain_seconds: float,
        prefixed: bool = True,
        policy: RestartPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._command = list(command)
        self._slots = range(processes)
        self._slot_variable = slot_variable
        self._drain_seconds = drain_seconds
        self._prefixed = prefixed
        self._policy = policy or RestartPolicy()
        self._clock = clock or SystemClock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = ThreadPoolExecutor(processes, "wait for worker")
        self._stopping = asyncio.Event()
        self._code = 0
        self._signals = 0

    async def run(self) -> int:
        """Start all and return when all have ended: the exit code for this process.

        0 after a stop in which every process drained; 1 when one did not or crashed too often; what a process ended
        with when that was a usage or configuration error; 130 or 143 after a second signal.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        deadline = asyncio.create_task(self._kill_late())
        try:
            await asyncio.gather(*(self._keep(slot) for slot in self._slots))
        finally:
            deadline.cancel()
            self._kill()
            self._threads.shutdown()
        return self._code

    async def _keep(self, slot: int) -> None:
        """Run one slot's processes, one after the other, until everything stops."""
        crashes: deque[float] = deque()
        while not self._stopping.is_set():
            code = await self._run_once(slot)
            if self._stopping.is_set():
                self._code = self._code or (FAILURE if code else 0)
                return
            if code in (USAGE, CONFIG):
                self._stop(code)
                return
            now = self._clock.monotonic()
            crashes.append(now)
            while crashes[0] < now - self._policy.within_seconds:
                crashes.popleft()
            if len(crashes) >= self._policy.crashes:
                log.error(
                    "worker %d ended %d times within %g s: giving up", slot, len(crashes), self._policy.within_seconds
                )
                self._stop(FAILURE)
                return
            pause = min(self._policy.first_seconds * 2 ** (len(crashes) - 1), self._policy.longest_seconds)
            log.warning("worker %d %s: starting it again in %g s", slot, _ended(code), pause)
            await self._pause(pause)

    async def _run_once(self, slot: int) -> int:
        process = subprocess.Popen(  # noqa: ASYNC220, S603
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, self._slot_variable: str(slot), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._running[slot] = process
        log.info("worker %d has process id %d", slot, process.pid)
        prefix = f"[{slot}] ".encode() if self._prefixed else b""
        relays = asyncio.gather(
            relay(await _reader(process.stdout), sys.stdout.buffer, prefix),
            relay(await _reader(process.stderr), sys.stderr.buffer, prefix),
        )
        code = await asyncio.get_running_loop().run_in_executor(self._threads, process.wait)
        # Whatever it started and left behind holds its pipes, and perhaps its locks.
        _kill_group(process)
        await relays
        _ask(process)
        del self._running[slot]
        return code

    async def _pause(self, seconds: float) -> None:
        waiting = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()

    async def _kill_late(self) -> None:
        await self._stopping.wait()
        await self._clock.sleep(self._drain_seconds)
        log.error("workers %s did not stop in time: killing them", ", ".join(map(str, self._running)))
        self._code = self._code or FAILURE
        self._kill()

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            self._code = SIGNALLED + number
            self._kill()
            return
        log.info("%s: stopping %d workers; once more to end at once", number.name, len(self._running))
        self._stop(0)

    def _stop(self, code: int) -> None:
        self._code = self._code or code
        self._stopping.set()
        for process in self._running.values():
            _ask(process)

    def _kill(self) -> None:
        for process in self._running.values():
            if process.returncode is None:
                _kill_group(process)


async def relay(reader: asyncio.StreamReader, to: IO[bytes], prefix: bytes) -> None:
    """Copy lines as they come, each behind ``prefix``, until the end; goes on reading when nobody listens."""
    rest = b""
    while data := await reader.read(CHUNK_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > LINE_BYTES:
            lines, rest = [*lines, rest], b""
        _write(to, b"".join(prefix + line + b"\n" for line in lines))
    if rest:
        _write(to, prefix + rest + b"\n")


def _write(to: IO[bytes], data: bytes) -> None:
    try:
        write_all(to, data)
    except OSError:
        pass


async def _reader(pipe: IO[bytes] | None) -> asyncio.StreamReader:
    assert pipe is not None
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def _ask(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
