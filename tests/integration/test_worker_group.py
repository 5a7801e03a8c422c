"""Workers come and go under load: the group shares the tasks out again, and no record is lost."""

import asyncio
import logging
import signal

import pytest

from tests.integration.counting import Counting, counting, given, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

log = logging.getLogger(__name__)

PARTITIONS = 6
SESSION_MS = 3_000


def balanced(tasks: list[set[str]]) -> bool:
    """Every task is somewhere, once, and loads differ by at most one."""
    sizes = [len(mine) for mine in tasks]
    return sum(sizes) == len(set().union(*tasks)) == 2 * PARTITIONS and max(sizes) - min(sizes) <= 1


async def test_every_record_counts_once_while_workers_come_and_go(app: Counting) -> None:
    await app.create(PARTITIONS)
    async with app.load(2_000):
        one = app.worker("one")
        await until(lambda: balanced(given([one])), 30, one)
        two = app.worker("two")
        await until(lambda: balanced(given([one, two])), 30, two)
        before = given([one, two])
        three = app.worker("three")
        await until(lambda: balanced(given([one, two, three])), 30, three)
        after = given([one, two, three])
        assert after[0] < before[0], "a task moved between workers that stayed"
        assert after[1] < before[1]
        assert await two.stopped() == 0
        await until(lambda: balanced(given([one, three])), 30, three)
        assert given([one])[0] > after[0]
        assert given([three])[0] > after[2]
        assert await one.stopped() == 0
        await until(lambda: balanced(given([three])), 30, three)
    await app.drained()
    assert await app.lost() == {}
    assert await app.counts() == app.expected
    assert await three.stopped() == 0


async def test_the_tasks_of_a_killed_worker_go_on_elsewhere_within_seconds(app: Counting) -> None:
    await app.create(PARTITIONS)
    async with app.load(2_000):
        victim = app.worker("victim", session_timeout_ms=SESSION_MS)
        await until(lambda: balanced(given([victim])), 30, victim)
        async with app.streams("heir", session_timeout_ms=SESSION_MS) as heir:
            await until(lambda: len(heir.tasks) == PARTITIONS and set(heir.tasks.values()) == {"running"}, 30, victim)
            await asyncio.sleep(1)
            victim.process.kill()
            passed = await until(
                lambda: len(heir.tasks) == 2 * PARTITIONS and set(heir.tasks.values()) == {"running"}, 20
            )
            log.info("the tasks of a killed worker ran again after %.1f s", passed)
            assert passed < SESSION_MS / 1000 + 4
            await asyncio.sleep(1)
    async with app.streams("heir") as heir:
        await app.drained()
    assert await app.lost() == {}
    # What the victim had processed and not committed is done again: at most a second of the load.
    surplus = sum((await app.counts()).values()) - sum(app.expected.values())
    assert surplus < 4_000


async def test_a_frozen_worker_that_wakes_up_expelled_loses_nothing(app: Counting) -> None:
    await app.create(PARTITIONS)
    settings = {"repartition_purge_interval_ms": 500, "session_timeout_ms": SESSION_MS}
    async with app.load(1_000):
        frozen = app.worker("frozen", **settings)
        await until(lambda: balanced(given([frozen])), 30, frozen)
        other = app.worker("other", **settings)
        await until(lambda: balanced(given([frozen, other])), 30, other)
        frozen.send(signal.SIGSTOP)
        await until(lambda: len(other.tasks()) == 2 * PARTITIONS, 20, other)
        await asyncio.sleep(2)
        frozen.send(signal.SIGCONT)
        await until(lambda: balanced(given([frozen, other])), 30, frozen)
    await app.drained()
    assert await app.lost() == {}
    assert [await worker.stopped() for worker in (frozen, other)] == [0, 0], app.logs()


async def test_workers_with_another_topology_wait_until_the_running_ones_have_gone(app: Counting) -> None:
    await app.create(2)
    await app.write(1_000)
    other = counting(app.name, store="other-counts")
    old = app.worker("old")
    await until(lambda: len(old.tasks()) == 4, 30, old)
    async with app.streams("new", other) as new:
        await asyncio.sleep(3)
        assert new.tasks == {}
        assert len(old.tasks()) == 4
        await app.drained()
        assert await old.stopped() == 0
        await until(lambda: len(new.tasks) == 4 and set(new.tasks.values()) == {"running"}, 20)
