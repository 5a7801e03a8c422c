"""One system under measurement as processes of this machine: started, frozen, accounted for, ended. Linux only.

Figures come from ``/proc`` and cover the process that was started and all its descendants.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class SystemProcess:
    """A started system.

    Args:
        command: Program and arguments.
        env: Added to the environment of the harness.
        log: File that takes what it prints.
        cwd: Where it runs.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=cwd,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            RuntimeError: With its exit code and the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            msg = f"ended by itself with exit code {code}; its log ends with:\n{self.log_tail()}"
            raise RuntimeError(msg)

    def pause(self) -> None:
        """Freeze all of it."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """User and system time of the tree so far, ended descendants included."""
        ticks = 0
        for pid in self._tree():
            fields = _stat_fields(pid)
            ticks += sum(int(field) for field in fields[11:15])  # utime, stime, and the same of reaped children
        return ticks / TICKS_PER_S

    def peak_rss_bytes(self) -> int:
        """The most memory each live process of the tree has held, added up."""
        total = 0
        for pid in self._tree():
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """End it: politely, and after the timeout not."""
        if self._process.poll() is None:
            self._signal(signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)  # also what a parent left behind
        self._process.wait()

    def log_tail(self, lines: int = 25) -> str:
        """The end of what it printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _tree(self) -> list[int]:
        tree = [self._process.pid]
        for pid in tree:
            try:
                threads = list(Path(f"/proc/{pid}/task").iterdir())
            except OSError:
                continue
            for thread in threads:
                try:
                    tree += map(int, (thread / "children").read_text(encoding="ascii").split())
                except OSError:
                    continue
        return tree


def _stat_fields(pid: int) -> list[str]:
    """Fields 3 and on of a process' stat; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []
