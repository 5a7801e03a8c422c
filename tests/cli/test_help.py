import os
import resource
import subprocess
import sys
from time import perf_counter

from streamlib.cli.connection import DEFAULT_BROKER_TEXT
from streamlib.kafka_streams import DEFAULT_BROKER

LIMIT_SECONDS = 0.3
HEAVY = ("aiokafka", "rocksdict", "rich", "orjson", "sqlite3", "uvloop", "streamlib.runtime")


def test_help_answers_at_once() -> None:
    walls, processors = [], []
    for _ in range(5):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
        subprocess.run([sys.executable, "-m", "streamlib", "--help"], check=True, stdout=subprocess.DEVNULL)
        walls.append(perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Help waits for nothing, so on a busy machine the time on the processor is what it would take on an idle one.
    is_busy = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    assert min(processors if is_busy else walls) < LIMIT_SECONDS


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom streamlib.cli.main import app\n"
        "try:\n    app(['worker', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print('imported:', *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported:"


def test_the_default_broker_in_the_help_is_the_true_one() -> None:
    assert DEFAULT_BROKER_TEXT == DEFAULT_BROKER


def test_an_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "streamlib", "wrker"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean 'worker'?" in done.stderr
