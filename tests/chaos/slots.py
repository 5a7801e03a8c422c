"""Worker processes, each in a slot with a state directory and a log of its own, which a new process takes over."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamlib.runtime import failpoints
from streamlib.testing.kafka_broker import free_port
from tests.chaos.topology import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
TARGET = "tests.chaos.topology:build()"
HOST = "127.0.0.1"
ENDS_WITHIN_SECONDS = 30.0
ASSIGNED = re.compile(r"assigned tasks: (.*)")
RESTORING = re.compile(r"restoring store \S+ from (\S+)-(\d+): offsets (\d+) to (\d+)")
RESTORED = re.compile(r"restored from (\S+)-(\d+)$")


@dataclass(frozen=True)
class Program:
    """What every worker is started with.

    Attributes:
        broker: Its address.
        application: Application id and first part of all topics' names.
        folder: Where state and logs are.
        settings: Of the workers.
    """

    broker: str
    application: str
    folder: Path
    settings: Mapping[str, object]


class Slot:
    """A place for one worker process at a time.

    Attributes:
        wanted: Whether a process should run here.
        failpoint: Where the next process is to die by itself; it is not started again then, until it is wanted again.
        state: The state directory.
        port: Where its processes tell their metrics.
        assigned: Whether the process that is here, or was here last, has been given tasks.
        tasks: How many it has.
        crashes: What was wrong with processes that ended by themselves, or did not when they were told to.
        restores: Topic, partition, and first and last offset of each changelog that a process here began to read, and
            again, without the offsets, once it was read; whoever looks at them takes them out.
    """

    def __init__(self, number: int, program: Program) -> None:
        self.number = number
        self.wanted = False
        self.state = program.folder / f"state-{number}"
        self.port = free_port()
        self.assigned = False
        self.tasks = 0
        self.failpoint: str | None = None
        self.crashes: list[str] = []
        self.restores: list[tuple[str, int, tuple[int, int] | None]] = []
        self.log = program.folder / f"worker-{number}.log"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_by: signal.Signals | None = None  # the signal that was sent to end it
        self._give_up = 0.0
        self._thaw = 0.0
        self._start = 0.0
        self._read_to = 0
        self._line = b""

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether there is a process, or one of which nobody has noticed yet that it has ended."""
        return self._process is not None

    @property
    def frozen(self) -> bool:
        """Whether its process stands still."""
        return self._thaw > 0

    @property
    def live(self) -> bool:
        """Whether a process is here that was given tasks, runs, and was not told to end."""
        self.tend()
        return self.pid is not None and self._ended_by is None and not self.frozen and self.assigned

    def tend(self) -> None:
        """Do what is due: look at the log, thaw, notice the end of a process, start the next one."""
        now = time.monotonic()
        self._read_log()
        if self._thaw and now >= self._thaw:
            self._send(signal.SIGCONT)
            self._thaw = 0.0
        if self._process is not None:
            if self.pid is None:
                self._ended(self._process.returncode)
            elif self._ended_by == signal.SIGTERM and now > self._give_up:
                self.crashes.append(f"slot {self.number}: did not end within {ENDS_WITHIN_SECONDS:g} s of SIGTERM")
                self._send(signal.SIGKILL)
                self._ended_by = signal.SIGKILL
        if self._process is None and self.wanted and now >= self._start:
            self._launch()

    def kill(self, restart_seconds: float) -> None:
        """SIGKILL, and a new process so much later."""
        self._send(signal.SIGKILL)
        self._ended_by = signal.SIGKILL
        self._thaw = 0.0
        self._start = time.monotonic() + restart_seconds

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later."""
        self._send(signal.SIGSTOP)
        self._thaw = time.monotonic() + seconds

    def end(self, restart_seconds: float = 0.0) -> None:
        """SIGTERM; if a process is still wanted here, a new one so much after it has ended."""
        self.thaw()
        if self._ended_by is None:
            self._send(signal.SIGTERM)
            self._ended_by = signal.SIGTERM
            self._give_up = time.monotonic() + ENDS_WITHIN_SECONDS
        self._start = time.monotonic() + restart_seconds

    def thaw(self) -> None:
        """SIGCONT now."""
        if self._thaw:
            self._thaw = time.monotonic()
            self.tend()

    def close(self) -> None:
        """End the process, at once."""
        self.wanted = False
        if self._process is not None:
            self._send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def tail(self, characters: int = 6_000) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def _launch(self) -> None:
        program = self._program
        pairs = {"application_id": program.application, **program.settings}
        settings = [part for name, value in pairs.items() for part in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "streamlib", "worker", TARGET, "--broker", f"kafka://{program.broker}"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            VARIABLE: program.application,
            failpoints.VARIABLE: self.failpoint or "",
        }
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "--state-dir", str(self.state), "--health-port", str(self.port), *settings],
                cwd=program.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._ended_by, self.assigned, self.tasks = None, False, 0

    def _ended(self, code: int) -> None:
        self._read_log()
        expected = {signal.SIGKILL: {-signal.SIGKILL}, signal.SIGTERM: {0}}
        codes = expected[self._ended_by] if self._ended_by is not None else set[int]()
        if self._ended_by == signal.SIGTERM and not self.assigned:
            codes.add(-signal.SIGTERM)  # it was still starting, and did not listen yet
        if self.failpoint is not None and code == failpoints.EXIT_CODE:
            self.wanted, self.failpoint = False, None
        elif code not in codes:
            told = "by itself" if self._ended_by is None else f"after {signal.Signals(self._ended_by).name}"
            self.crashes.append(f"slot {self.number}: ended {told} with exit code {code}:\n{self.tail()}")
            self._start = time.monotonic() + 1.0
        self._process, self._thaw = None, 0.0

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _read_log(self) -> None:
        if not self.log.exists():
            return
        with self.log.open("rb") as log:
            log.seek(self._read_to)
            read = log.read()
        self._read_to += len(read)
        *lines, self._line = (self._line + read).split(b"\n")
        for raw in lines:
            line = raw.decode(errors="replace")
            if found := ASSIGNED.search(line):
                self.assigned = True
                self.tasks = 0 if found[1] == "none" else found[1].count(",") + 1
            elif found := RESTORING.search(line):
                self.restores.append((found[1], int(found[2]), (int(found[3]), int(found[4]))))
            elif found := RESTORED.search(line):
                self.restores.append((found[1], int(found[2]), None))
