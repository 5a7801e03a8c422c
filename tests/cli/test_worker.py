"""Workers as processes: what they do when told to stop, when they fail, and when there are several."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.cli.running import Cli

pytestmark = pytest.mark.slow

QUICK = ("--commit-interval", "50ms")


@pytest.fixture
def words(cli: Cli) -> Cli:
    """The word count application, and something to count."""
    cli.write_app(APPLICATION="app", SENTENCES="sentences", COUNTS="counts")
    cli("topics", "create", "sentences", "counts", "--partitions", "2")
    cli.produce("sentences", ["a b a"], "--value-format", "string")
    return cli


def until(happened: Callable[[], object], seconds: float = 30) -> None:
    deadline = monotonic() + seconds
    while not happened():
        assert monotonic() < deadline, "it did not happen in time"
        sleep(0.05)


def line_of(process: "subprocess.Popen[str]", part: str) -> str:
    """The first line of stderr that holds ``part``."""
    assert process.stderr is not None
    for line in process.stderr:
        if part in line:
            return line
    raise AssertionError(f"{part!r} is not in the log")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_counts_until_a_signal_and_goes_on_the_next_time(words: Cli, number: signal.Signals) -> None:
    for round_ in (1, 2):
        worker = words.start("worker", "app:topology", *QUICK)
        records = words.wait_for_records("counts", 2 * round_)
        assert {record["key"]: record["value"] for record in records} == {"a": 2 * round_, "b": round_}
        worker.send_signal(number)
        _, log = worker.communicate(timeout=30)
        assert worker.returncode == 0, log
        assert f"stopping ({number.name}: once more to end at once)" in log
        assert log.splitlines()[-1].endswith("INFO    streamlib.cli.worker: app has stopped")
        words.produce("sentences", ["a b a"], "--value-format", "string")
    assert (words.folder / "state" / "app").is_dir()


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_a_worker_whose_function_does_not_return(
    words: Cli, second: signal.Signals, code: int
) -> None:
    words.write_app(
        **{"APPLICATION": "app", "SENTENCES": "sentences", "COUNTS": "counts"},
        **{"return sentence.split()": "import time; print('held', flush=True); time.sleep(600)"},
    )
    worker = words.start("worker", "app:topology", *QUICK)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "held\n"
    worker.terminate()
    sleep(0.2)
    assert worker.poll() is None
    worker.send_signal(second)
    assert worker.wait(10) == code


def test_a_worker_is_given_up_while_it_waits_for_its_broker(words: Cli) -> None:
    worker = words.start("worker", "app:topology", "--broker", "kafka://127.0.0.1:9")
    line_of(worker, "waiting for the broker")
    worker.terminate()
    assert worker.wait(10) == 0


def test_an_error_of_a_user_function_ends_the_worker_and_is_told_with_its_line(words: Cli) -> None:
    words.write_app(
        **{"APPLICATION": "app", "SENTENCES": "sentences", "COUNTS": "counts"},
        **{"return sentence.split()": "return {}[sentence]"},
    )
    worker = words.start("worker", "app:topology", *QUICK)
    _, err = worker.communicate(timeout=30)
    assert worker.returncode == 1
    assert "error: " in err
    assert f"at {words.folder / 'app.py'}:5 in split" in err
    assert "Traceback" not in err


def test_settings_of_the_command_line_reach_the_worker(words: Cli) -> None:
    (words.folder / "prod.toml").write_text('application_id = "filed"\ncommit_interval_ms = 50\n')
    worker = words.start("worker", "app:topology", "--config", "prod.toml", "--set", "state.dir=elsewhere")
    words.wait_for_records("counts", 2)
    worker.terminate()
    assert worker.wait(20) == 0
    assert [path.name for path in (words.folder / "elsewhere").iterdir()] == ["filed"]
    assert "filed" in words("groups").out


def test_logs_are_json_lines_when_asked_for(words: Cli) -> None:
    worker = words.start("worker", "app:topology", "--log-format", "json", *QUICK)
    words.wait_for_records("counts", 2)
    worker.terminate()
    _, err = worker.communicate(timeout=20)
    documents = [json.loads(line) for line in err.splitlines()]
    assert {"time", "level", "logger", "message"} == documents[0].keys()
    assert documents[-1]["message"] == "app has stopped"


def test_the_loop_is_uvloops_when_it_is_installed(words: Cli) -> None:
    words.write_app(
        **{"APPLICATION": "app", "SENTENCES": "sentences", "COUNTS": "counts"},
        **{"return sentence.split()": "import asyncio; print(asyncio.get_running_loop(), flush=True); return []"},
    )
    worker = words.start("worker", "app:topology", *QUICK)
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("<uvloop.Loop ")
    worker.terminate()
    assert worker.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker", "absent:topology"], "there is no module absent"),
        (["worker", "app:topologi"], 'Did you mean "topology"?'),
        (["worker", "app:builder"], "is a StreamsBuilder, not a Topology. Call build()"),
        (["worker", "app:topology", "--set", "comit_interval_ms=5"], 'Did you mean "commit_interval_ms"?'),
        (["worker", "app:topology", "-p", "2"], "takes 1 worker process, not 2: leave out -p, or use Kafka"),
        (["worker", "app:topology", "--sasl-mechanism", "PLAIN"], "does not log in: use SASL_SSL"),
    ],
)
def test_a_mistake_of_the_configuration_ends_with_78(words: Cli, arguments: list[str], message: str) -> None:
    process = words.start(*arguments)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.startswith("error: ")) == (78, True), err
    assert message in err
    assert "Traceback" not in err


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.kafka
def test_several_processes_share_the_work_and_a_killed_one_comes_back(kafka_cli: Cli, name: str) -> None:
    kafka_cli.write_app(APPLICATION=name, SENTENCES=f"{name}-in", COUNTS=f"{name}-out")
    kafka_cli("topics", "create", f"{name}-in", f"{name}-out", "--partitions", "4")
    workers = kafka_cli.start("worker", "app:topology", "-p", "2", "--session-timeout-ms", "6000", *QUICK)
    until(lambda: [name, "Stable", "2"] in [line.split()[:3] for line in kafka_cli("groups").out.splitlines()])
    kafka_cli.produce(f"{name}-in", ["a b", "c d"], "--value-format", "string")
    counted = kafka_cli.wait_for_records(f"{name}-out", 4)
    assert sorted(record["key"] for record in counted) == ["a", "b", "c", "d"]
    assert sorted(path.name for path in (kafka_cli.folder / "state").iterdir()) == ["0", "1"]

    killed = children(workers.pid)[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(children(workers.pid)) == 2 and killed not in children(workers.pid))
    kafka_cli.produce(f"{name}-in", ["a b", "c d"], "--value-format", "string")
    counted = kafka_cli.wait_for_records(f"{name}-out", 8)
    assert sorted(record["value"] for record in counted) == [1, 1, 1, 1, 2, 2, 2, 2]

    workers.terminate()
    _, err = workers.communicate(timeout=40)
    assert workers.returncode == 0, err
    assert "was killed by SIGKILL: starting it again in 0.5 s" in err
    for slot in (0, 1):
        assert any(line.startswith(f"[{slot}] ") and f"{name} has stopped" in line for line in err.splitlines())
    until(lambda: [name, "Empty", "0"] in [line.split() for line in kafka_cli("groups").out.splitlines()])
