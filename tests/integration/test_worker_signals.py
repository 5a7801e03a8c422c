"""Workers under load are told to stop, alone or supervised: they commit, leave in time, and the next ones go on."""

import asyncio
import os
import re
import signal
import time

import pytest

from tests.integration.counting import Counting, Worker, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signalled_worker_commits_and_the_next_one_goes_on_exactly(
    app: Counting, number: signal.Signals
) -> None:
    await app.create(2)
    # Nothing is committed but by the stop.
    async with app.load(2_000):
        worker = app.worker("w", commit_interval_ms=3_600_000)
        await until(lambda: len(worker.tasks()) == 4, 30, worker)
        await asyncio.sleep(1)
        began = time.monotonic()
        assert await worker.stopped(number) == 0
        assert time.monotonic() - began < 10
        held = await (await app.admin()).group_offsets(app.name)
        assert sum(at.offset for tp, at in held.items() if tp.topic == f"{app.name}-in") > 1_000
        assert "Traceback" not in worker.text
        again = app.worker("again", state="w")
        await until(lambda: len(again.tasks()) == 4, 30, again)
    await app.drained()
    assert await app.lost() == {}
    assert await app.counts() == app.expected
    assert await again.stopped(number) == 0


def children(worker: Worker) -> dict[int, int]:
    """The process id of each slot, by what the supervisor has logged last."""
    return {int(slot): int(pid) for slot, pid in re.findall(r"worker (\d+) has process id (\d+)", worker.text)}


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_process_is_started_again_and_the_group_goes_on(app: Counting) -> None:
    await app.create(4)
    async with app.load(2_000):
        group = app.worker("group", "-p", "2")
        await until(lambda: group.text.count("assigned tasks: ") >= 2 and len(children(group)) == 2, 30, group)
        await asyncio.sleep(2)
        first = children(group)
        os.kill(first[1], signal.SIGKILL)
        await until(lambda: children(group)[1] != first[1], 10, group)
        assert "worker 1 was killed by SIGKILL: starting it again" in group.text
        second = children(group)
        await until(
            lambda: re.search(r"^\[1\] .*assigned tasks: (?!none)", after(group, second[1]), re.MULTILINE), 30, group
        )
    await app.drained()
    assert await app.lost() == {}
    assert await group.stopped() == 0, group.text[-3000:]
    assert not any(runs(pid) for pid in second.values())
    assert group.text.count("has stopped") == 2
    assert "Traceback" not in group.text


def after(worker: Worker, pid: int) -> str:
    """What was logged since this process was started."""
    return worker.text.partition(f"has process id {pid}")[2]
