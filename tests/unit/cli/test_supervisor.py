"""Every worker here is a real process: a few lines of Python that behave well or badly."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamlib.cli.supervisor import RestartPolicy, Supervisor, relay

QUICK = RestartPolicy(crashes=3, first_seconds=0.01, longest_seconds=0.02)
DRAINS = "import sys; print('up', flush=True); sys.stdin.read(); print('drained', flush=True)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def supervisor(script: str, processes: int = 1, *, drain_seconds: float = 10.0, prefixed: bool = True) -> Supervisor:
    return Supervisor(
        [sys.executable, "-c", script],
        processes,
        slot_variable="SLOT",
        drain_seconds=drain_seconds,
        prefixed=prefixed,
        policy=QUICK,
    )


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.01)


class Output:
    """What the supervised processes have written to stdout so far."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture, self.text = capture, ""

    def lines(self) -> list[str]:
        self.text += self._capture.readouterr().out
        return self.text.splitlines()


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str]) -> Output:
    return Output(capfd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_processes_drain_when_a_signal_comes(output: Output, number: signal.Signals) -> None:
    running = asyncio.create_task(supervisor(DRAINS, 2).run())
    await until(lambda: len(output.lines()) == 2)
    os.kill(os.getpid(), number)
    assert await running == 0
    assert sorted(output.lines()) == ["[0] drained", "[0] up", "[1] drained", "[1] up"]


async def test_each_process_is_told_its_slot(output: Output) -> None:
    script = "import os, sys; print('slot', os.environ['SLOT'], flush=True); sys.stdin.read()"
    running = asyncio.create_task(supervisor(script, 3, prefixed=False).run())
    await until(lambda: len(output.lines()) == 3)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert sorted(output.lines()) == ["slot 0", "slot 1", "slot 2"]


async def test_a_crashed_process_is_started_again(output: Output, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        f"seen = pathlib.Path({str(tmp_path)!r}, 'seen')\n"
        "if not seen.exists():\n    seen.touch()\n    os.abort()\n" + DRAINS
    )
    running = asyncio.create_task(supervisor(script).run())
    await until(lambda: output.lines() == ["[0] up"])
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0


async def test_everything_stops_when_a_process_keeps_crashing(output: Output, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "if os.environ['SLOT'] == '1':\n"
        f"    pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n    sys.exit(3)\n" + DRAINS
    )
    assert await supervisor(script, 2).run() == 1
    assert len(list(tmp_path.iterdir())) == QUICK.crashes
    assert "[0] drained" in output.lines()


@pytest.mark.parametrize("code", [2, 78])
async def test_a_configuration_error_is_not_tried_again(code: int, tmp_path: Path) -> None:
    script = f"import os, pathlib, sys; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); sys.exit({code})"
    assert await supervisor(script).run() == code
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_process_that_fails_while_it_drains_is_a_failure(output: Output) -> None:
    script = "import sys; print('up', flush=True); sys.stdin.read(); sys.exit(5)"
    running = asyncio.create_task(supervisor(script).run())
    await until(lambda: output.lines() == ["[0] up"])
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 1


async def test_a_process_that_does_not_drain_is_killed_after_its_time(output: Output) -> None:
    running = asyncio.create_task(supervisor(STUBBORN, drain_seconds=0.2).run())
    await until(lambda: output.lines() == ["[0] up"])
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 1


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_everything_at_once(output: Output, second: signal.Signals, code: int) -> None:
    running = asyncio.create_task(supervisor(STUBBORN, 2, drain_seconds=60).run())
    await until(lambda: len(output.lines()) == 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    assert not running.done()
    os.kill(os.getpid(), second)
    assert await running == code


async def test_workers_drain_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    drained = f"pathlib.Path({str(tmp_path)!r}, 'drained').touch()"
    worker = f"import sys, pathlib; print('up', flush=True); sys.stdin.read(); {drained}"
    script = (
        "import asyncio, sys\nfrom streamlib.cli.supervisor import Supervisor\n"
        f"asyncio.run(Supervisor([sys.executable, '-c', {worker!r}], 1, slot_variable='SLOT', drain_seconds=5).run())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"[0] up\n"
    process.kill()
    await process.wait()
    await until((tmp_path / "drained").exists)


async def test_what_a_dead_worker_left_behind_does_not_hold_up_its_successor(output: Output, tmp_path: Path) -> None:
    leaves = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    script = (
        "import os, pathlib, subprocess, sys\n"
        f"seen = pathlib.Path({str(tmp_path)!r}, 'seen')\n"
        "if not seen.exists():\n"
        f"    seen.write_text(str(subprocess.Popen([sys.executable, '-c', {leaves!r}]).pid))\n"
        "    os.abort()\n" + DRAINS
    )
    running = asyncio.create_task(supervisor(script).run())
    await until(lambda: output.lines() == ["[0] up"])
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    orphan = Path("/proc", (tmp_path / "seen").read_text(), "cmdline")
    await until(lambda: not orphan.exists() or not orphan.read_bytes())


async def test_lines_are_relayed_whole_each_behind_the_prefix(tmp_path: Path) -> None:
    reader = asyncio.StreamReader()
    with (tmp_path / "out").open("wb") as out:
        relaying = asyncio.create_task(relay(reader, out, b"[0] "))
        for part in (b"on", b"e\ntwo\n\nth", b"ree"):
            reader.feed_data(part)
            await asyncio.sleep(0)
        reader.feed_eof()
        await relaying
    assert (tmp_path / "out").read_bytes() == b"[0] one\n[0] two\n[0] \n[0] three\n"
