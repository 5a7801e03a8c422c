"""The simulated event loop: whose turn it is, what time it is, and what a freeze and a kill leave."""

import asyncio
import socket

import pytest

from tests.simulation.loop import SimulationLoop


def test_time_jumps_when_everyone_sleeps() -> None:
    loop = SimulationLoop(1)

    async def sleep() -> float:
        before = loop.time()
        await asyncio.sleep(3_600)
        return loop.time() - before

    assert loop.run_until_complete(sleep()) == pytest.approx(3_600)
    loop.close()


def test_callbacks_keep_their_order_when_they_are_of_one_process() -> None:
    loop = SimulationLoop(1)
    seen: list[int] = []

    async def ten() -> None:
        for number in range(10):
            loop.call_soon(seen.append, number)
        await asyncio.sleep(1)

    loop.run_until_complete(ten())
    assert seen == list(range(10))
    loop.close()


def interleaving(seed: int) -> list[str]:
    loop = SimulationLoop(seed)
    seen: list[str] = []

    async def count(name: str) -> None:
        for _ in range(5):
            seen.append(name)
            await asyncio.sleep(0)

    async def two() -> None:
        await asyncio.gather(*(loop.process(name).spawn(count(name)) for name in "ab"))

    loop.run_until_complete(two())
    loop.close()
    return seen


def test_processes_take_turns_by_chance_when_both_are_ready() -> None:
    assert len({tuple(interleaving(seed)) for seed in range(20)}) > 10
    assert interleaving(7) == interleaving(7)


def test_a_frozen_process_goes_on_when_it_is_thawed_and_late_then() -> None:
    loop = SimulationLoop(1)
    seen: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(loop.time() - start)

    async def freeze() -> None:
        process = loop.process("p")
        process.spawn(tick())
        await asyncio.sleep(1.5)
        process.freeze()
        await asyncio.sleep(5)
        process.thaw()
        await asyncio.sleep(1.5)

    start = loop.time()
    loop.run_until_complete(freeze())
    assert seen == pytest.approx([1, 6.5, 7.5], abs=0.01)
    loop.close()


def test_nothing_of_a_process_runs_when_it_was_killed() -> None:
    loop = SimulationLoop(1)
    seen: list[str] = []

    async def die() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            seen.append("cleaned up")

    async def kill() -> list[str]:
        process = loop.process("p")
        process.spawn(die())
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.sleep(5)
        return list(seen)

    assert loop.run_until_complete(kill()) == []
    loop.close()


def test_sockets_are_refused_when_something_asks_for_one() -> None:
    loop = SimulationLoop(1)

    async def connect() -> None:
        await asyncio.open_connection("127.0.0.1", 9, family=socket.AF_INET)

    with pytest.raises(NotImplementedError):
        loop.run_until_complete(connect())
    loop.close()


def test_a_deadlock_is_an_error_when_nothing_will_ever_happen() -> None:
    loop = SimulationLoop(1)
    with pytest.raises(RuntimeError, match="everyone waits"):
        loop.run_until_complete(loop.create_future())
