"""A worker hears of a disk that runs out of room, and of one that has room again."""

import asyncio
import logging
from pathlib import Path

import pytest

from streamlib.errors import StateStoreError
from streamlib.metrics import Metrics
from streamlib.runtime.free_space import MIB, SECONDS, FreeSpace
from streamlib.testing.clock import ManualClock

LEAST = 100 * MIB
FOLDER = Path("/state")


class Disk:
    """A file system with this much room at one look after the other; the last one lasts."""

    def __init__(self, *free_mib: float) -> None:
        self._free = [round(free * MIB) for free in free_mib]

    @property
    def full(self) -> bool:
        return len(self._free) == 1

    def __call__(self, path: Path) -> int:
        assert path == FOLDER
        return self._free[0] if self.full else self._free.pop(0)


async def followed(clock: ManualClock, *free_mib: float) -> list[bool]:
    """Whether there was too little, after each look."""
    disk = Disk(*free_mib, -1)
    space = FreeSpace(FOLDER, LEAST, clock, Metrics(), disk)
    lows: list[bool] = []
    following = asyncio.ensure_future(space.follow())
    while not disk.full:
        looked = clock.monotonic()
        await asyncio.sleep(0)
        if clock.monotonic() != looked:
            lows.append(space.low)
    following.cancel()
    return lows


async def test_reading_stops_below_the_limit_and_goes_on_only_well_above_it(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    caplog.set_level(logging.INFO)
    assert await followed(clock, 150, 100, 99, 0, 100, 124, 125, 110, 99) == [
        *(False, False, True, True, True, True, False, False, True),
    ]
    assert clock.monotonic() == 9 * SECONDS
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    start = "the file system of the state directory /state has "
    assert told == [
        ("WARNING", f"{start}150 MiB free: free some space before it is too little and nothing is read any more"),
        (
            "ERROR",
            f"{start}99 MiB free, and state_min_free_bytes={LEAST}: nothing is read until some space is freed",
        ),
        ("INFO", f"{start}125 MiB free: reading goes on"),
        (
            "ERROR",
            f"{start}99 MiB free, and state_min_free_bytes={LEAST}: nothing is read until some space is freed",
        ),
    ]


async def test_who_waits_for_room_goes_on_when_there_is_some() -> None:
    clock, disk = ManualClock(), Disk(99, 99, 99, 200)
    space = FreeSpace(FOLDER, LEAST, clock, Metrics(), disk)
    following = asyncio.ensure_future(space.follow())
    await asyncio.sleep(0)
    assert space.low
    await space.enough()
    assert disk.full
    following.cancel()


def test_a_start_is_refused_below_the_limit_only() -> None:
    with pytest.raises(StateStoreError, match="has 99 MiB free, and a worker needs state_min_free_bytes=104857600"):
        FreeSpace(FOLDER, LEAST, ManualClock(), Metrics(), Disk(99.5)).check()
    FreeSpace(FOLDER, LEAST, ManualClock(), Metrics(), Disk(100)).check()
    FreeSpace(FOLDER, 0, ManualClock(), Metrics(), Disk(0)).check()
