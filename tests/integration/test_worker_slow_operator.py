"""A user function that holds the event loop for longer than the session lasts: others do its work, nothing is lost."""

import asyncio

import pytest

from tests.integration.counting import SETTINGS, Counting, given, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 2
SESSION_MS = SETTINGS["session_timeout_ms"]
APP = """
import time
from pathlib import Path

from streamlib import StreamsBuilder, serdes

HELD = Path(__file__).with_name("held")


def hold_once(_, word):
    \"\"\"The first worker that gets here stands still.\"\"\"
    if Path(__file__).with_name("hold").exists() and not HELD.exists():
        HELD.touch()
        time.sleep({seconds})
        HELD.write_text("over")
    return word


builder = StreamsBuilder({name!r})
stream = builder.stream("{name}-in", serdes.STRING, serdes.STRING)
counted = stream.group_by(hold_once).count(store="counts").to_stream()
counted.to("{name}-out", key_serde=serdes.STRING, value_serde=serdes.INT64)
topology = builder.build()
"""


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
async def test_a_worker_whose_loop_was_held_for_two_sessions_drops_its_work_and_nothing_is_lost(
    app: Counting, guarantee: str
) -> None:
    await app.create(PARTITIONS)
    seconds = 2 * SESSION_MS / 1000
    (app.folder / "app.py").write_text(APP.format(name=app.name, seconds=seconds))
    workers = [app.worker(name, processing_guarantee=guarantee, commit_interval_ms=200) for name in ("one", "two")]
    async with app.load(1_000):
        await until(lambda: all(len(tasks) == PARTITIONS for tasks in given(workers)), 30, workers[0])
        (app.folder / "hold").touch()
        held = app.folder / "held"
        await until(held.exists, 10, workers[0])
        await until(lambda: any(len(tasks) == 2 * PARTITIONS for tasks in given(workers)), seconds, workers[0])
        assert held.read_text() == "", "the tasks went on elsewhere while the function held its worker"
        await until(lambda: held.read_text() == "over", 2 * seconds, workers[0])
        await until(lambda: all(len(tasks) == PARTITIONS for tasks in given(workers)), 30, workers[0])
        await asyncio.sleep(1)
    if guarantee == "exactly_once_v2":
        await app.exact()
    else:
        await app.drained()
        assert await app.lost() == {}
    assert [await worker.stopped() for worker in workers] == [0, 0], app.logs()
