"""How quickly help answers, and what it imports."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

import streamlib
from streamlib.cli.connection import DEFAULT_BROKER_TEXT
from streamlib.kafka_streams import DEFAULT_BROKER

LIMIT_SECONDS = 0.3
# As at a user's, where the second run does not compile the sources again.
BYTECODE_IS_KEPT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
HEAVY = ("aiokafka", "rocksdict", "rich", "orjson", "msgspec", "sqlite3", "uvloop", "streamlib.kafka_streams")

COMMAND = "from streamlib.cli.main import main\nmain()\n"
# The command line's own part, without what `import streamlib` itself loads.
OWN_PART = (
    "import sys, types\nroot = types.ModuleType('streamlib')\n"
    f"root.__path__ = [{str(Path(streamlib.__file__).parent)!r}]\nsys.modules['streamlib'] = root\n" + COMMAND
)
TOLD = f"import atexit, sys\natexit.register(lambda: print('imported:', *[n for n in {HEAVY} if n in sys.modules]))\n"


def best_of_ten(script: str) -> float:
    """Seconds that ``--help`` takes."""
    walls, processors = [], []
    for _ in range(10):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
        subprocess.run(
            [sys.executable, "-c", script, "--help"], check=True, stdout=subprocess.DEVNULL, env=BYTECODE_IS_KEPT
        )
        walls.append(perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Help waits for nothing, so on a busy machine the time on the processor is near what it would take on an idle one.
    is_busy = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    return min(processors if is_busy else walls)


def imported(script: str) -> list[str]:
    """Which of the heavy modules ``worker --help`` loads."""
    command = [sys.executable, "-c", TOLD + script, "worker", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.slow
@pytest.mark.alone
def test_the_command_lines_own_part_of_help_answers_at_once() -> None:
    assert best_of_ten(OWN_PART) < LIMIT_SECONDS


def test_the_command_line_imports_nothing_heavy_for_help() -> None:
    assert imported(OWN_PART) == []


@pytest.mark.slow
@pytest.mark.alone
def test_help_answers_at_once() -> None:
    assert best_of_ten(COMMAND) < LIMIT_SECONDS


def test_help_loads_no_driver_and_no_store() -> None:
    assert not {"aiokafka", "rocksdict"} & set(imported(COMMAND))


def test_help_loads_no_driver() -> None:
    assert "aiokafka" not in imported(COMMAND)


def test_the_default_broker_in_the_help_is_the_true_one() -> None:
    assert DEFAULT_BROKER_TEXT == DEFAULT_BROKER


def test_an_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "streamlib", "wrker"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean 'worker'?" in done.stderr
