"""How long processing pauses when workers come, go and die: twelve tasks, three workers, a steady load."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.counting import Worker, given, until
from tests.integration.steady import Steady, longest_gaps, now_ms

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone]

log = logging.getLogger(__name__)

PARTITIONS = 12
SESSION_MS = 3_000
SLACK_MS = 500  # for a machine that does other things as well
SETTINGS: dict[str, object] = {
    "statestore_cache_max_bytes": 0,  # every update comes out at once: pauses are seen
    "commit_interval_ms": 200,
    "session_timeout_ms": SESSION_MS,
    "heartbeat_interval_ms": 300,
    "processing_guarantee": "at_least_once",
}


@pytest.fixture
async def steady(kafka_broker: str, tmp_path: Path) -> AsyncIterator[Steady]:
    """Twelve partitions on the broker that tests share."""
    made = Steady(kafka_broker, tmp_path)
    await made.create(PARTITIONS)
    yield made
    await made.close()


def partitions(tasks: set[str]) -> set[int]:
    return {int(task.split("_")[1]) for task in tasks}


def balanced(*workers: Worker) -> bool:
    """Every task is somewhere, once, and loads differ by at most one."""
    tasks = given(workers)
    sizes = [len(mine) for mine in tasks]
    return sum(sizes) == len(set().union(*tasks)) == PARTITIONS and max(sizes) - min(sizes) <= 1


def three(steady: Steady, **settings: object) -> list[Worker]:
    return [steady.worker(name, **{**SETTINGS, **settings}) for name in ("one", "two", "three")]


async def test_tasks_that_stay_pause_for_less_than_a_second_when_a_worker_joins_and_leaves(steady: Steady) -> None:
    one, two = (steady.worker(name, **SETTINGS) for name in ("one", "two"))
    async with steady.steady_load():
        await until(lambda: balanced(one, two), 30, one)
        await asyncio.sleep(1)
        joining = now_ms()
        third = steady.worker("three", **SETTINGS)
        await until(lambda: balanced(one, two, third), 30, third)
        joined = given([one, two, third])
        await asyncio.sleep(1)
        leaving = now_ms()
        assert await third.stopped() == 0
        await until(lambda: balanced(one, two), 30, one)
        await asyncio.sleep(1)
        end = now_ms()
    await steady.drained()
    times = await steady.written_at()
    stay = sorted(partitions(joined[0] | joined[1]))
    for what, since, to in (("joined", joining, leaving), ("left", leaving, end)):
        gaps = longest_gaps(times, since, to)
        pauses = {partition: gaps[partition] for partition in stay}
        moved = {partition: gap for partition, gap in gaps.items() if partition not in pauses}
        log.info("a worker %s: tasks that stayed paused for %s ms, those that moved for %s ms", what, pauses, moved)
        assert max(pauses.values()) < 1_000 + SLACK_MS
    assert await steady.counts() == steady.expected


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
async def test_the_tasks_of_a_killed_worker_go_on_at_its_standbys_within_a_second(
    steady: Steady, guarantee: str
) -> None:
    workers = three(steady, num_standby_replicas=1, processing_guarantee=guarantee)
    async with steady.steady_load():
        await until(lambda: balanced(*workers), 40, workers[0])
        await asyncio.sleep(2)  # the copies follow
        lost = sorted(partitions(given(workers)[2]))
        killed = now_ms()
        workers[2].process.kill()
        await until(lambda: balanced(*workers[:2]), 20, workers[0])
        await asyncio.sleep(1)
        end = now_ms()
    await steady.drained()
    times = await steady.written_at()
    again = {
        partition: min(at for at in times[partition] if at > killed + SESSION_MS / 2) - killed for partition in lost
    }
    gaps = longest_gaps(times, killed, end)
    log.info("of a killed worker (session timeout %d ms) tasks processed again after %s ms", SESSION_MS, again)
    log.info("the others paused for %s ms", {at: gap for at, gap in gaps.items() if at not in lost})
    fencing_ms = SLACK_MS if guarantee == "exactly_once_v2" else 0  # the lost worker's transaction has to end first
    assert max(again.values()) <= SESSION_MS + 1_000 + SLACK_MS + fencing_ms
    assert await steady.lost() == {}


async def test_a_rolling_restart_of_three_workers_loses_nothing(steady: Steady) -> None:
    workers = three(steady)
    async with steady.steady_load():
        await until(lambda: balanced(*workers), 40, workers[0])
        await asyncio.sleep(1)
        began = now_ms()
        for number, name in enumerate(("one", "two", "three")):
            assert await workers[number].stopped() == 0
            workers[number] = steady.worker(f"{name}-again", state=name, **SETTINGS)
            await until(lambda: balanced(*workers), 30, workers[number])
        await asyncio.sleep(1)
        end = now_ms()
    await steady.drained()
    gaps = longest_gaps(await steady.written_at(), began, end)
    log.info("rolling restart of three workers: longest gap of each partition in ms: %s", gaps)
    assert max(gaps.values()) < 3_000 + SLACK_MS
    assert await steady.counts() == steady.expected


async def test_a_static_member_that_comes_back_in_time_causes_no_rebalance(steady: Steady) -> None:
    settings = {**SETTINGS, "session_timeout_ms": 30_000}
    one, two = (steady.worker(name, group_instance_id=name, **settings) for name in ("one", "two"))
    async with steady.steady_load():
        await until(lambda: balanced(one, two), 30, one)
        await asyncio.sleep(1)
        before = given([one, two])
        decisions = one.text.count("assigned tasks")
        began = now_ms()
        assert await two.stopped(signal.SIGTERM) == 0
        again = steady.worker("two-again", state="two", group_instance_id="two", **settings)
        await until(lambda: again.tasks() == before[1], 25, again)
        await asyncio.sleep(1)
        end = now_ms()
    await steady.drained()
    assert one.text.count("assigned tasks") == decisions
    gaps = longest_gaps(await steady.written_at(), began, end)
    log.info("a static member restarted: longest gap of each partition in ms: %s", gaps)
    assert max(gaps[partition] for partition in partitions(before[0])) < 1_000 + SLACK_MS
    assert await steady.counts() == steady.expected
