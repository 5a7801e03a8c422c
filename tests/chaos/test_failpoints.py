"""A worker dies at each point that matters, on a real Kafka, and is started again; then everything is looked at.

All points come one after the other in one application, beside a worker that goes on: so the dead one's tasks may be
taken over, and come back. ``tests.chaos`` kills at random; this finds the moments that chance rarely hits.
"""

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from streamlib.runtime.failpoints import POINTS
from tests.chaos.checks import Findings
from tests.chaos.feeder import feed
from tests.chaos.load import Load, recently
from tests.chaos.report import EXACTLY_ONCE
from tests.chaos.run import settings
from tests.chaos.slots import Slot
from tests.chaos.stage import TICK_SECONDS, Stage
from tests.chaos.verify import verified

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SESSION_MS = 1_500
RECORDS_PER_SECOND = 1_000
DIES_WITHIN_SECONDS = 40.0
MANY = 10_000_000
TIMES = {"in-revoked": 2, "in-assigned": 1, "after-assigned": 1, "during-close": 1, "mid-restore": 1}
"""At which time a worker dies there, if not at the second; joining counts as a revocation of nothing."""

BEFORE_WORK = {"in-revoked", "in-assigned", "after-assigned"}

ONLY_EXACTLY_ONCE = {"before-end", "after-end"}


async def until_dead(stage: Stage, slot: Slot, point: str, folder: Path) -> None:
    """Start a worker that dies at a point, and give it reason to come there."""
    if point == "mid-restore":
        shutil.rmtree(folder / f"state-{slot.number}", ignore_errors=True)
    slot.failpoint, slot.wanted = f"{point}:{TIMES.get(point, 2)}", True
    deadline = time.monotonic() + DIES_WITHIN_SECONDS
    nudged = False
    while slot.wanted:
        assert time.monotonic() < deadline, f"{point} was not reached: {slot.tail()}"
        if not nudged and slot.live:
            nudged = True
            if point == "during-close":
                slot.end()
            elif point == "in-revoked":
                stage.slots[1].end()  # comes back at once: two rebalances
        for each in stage.slots:
            each.tend()
        await asyncio.sleep(TICK_SECONDS)
    assert slot.assigned or point in BEFORE_WORK, f"{point} was reached before there was work: {slot.tail()}"


@pytest.mark.parametrize("guarantee", ["at_least_once", EXACTLY_ONCE])
async def test_guarantee_holds_when_workers_die_at_every_point(
    kafka_broker: str, tmp_path: Path, guarantee: str
) -> None:
    points = [point for point in POINTS if guarantee == EXACTLY_ONCE or point not in ONLY_EXACTLY_ONCE]
    pairs = settings(guarantee, SESSION_MS)
    load, began, stop = Load(seed=11, records=MANY, start_ms=recently()), time.monotonic(), asyncio.Event()

    def allowed() -> int:
        return int((time.monotonic() - began) * RECORDS_PER_SECOND)

    async with Stage(kafka_broker, tmp_path, 2, pairs) as stage:
        dying, other = stage.slots
        other.wanted = True
        async with asyncio.timeout(60):
            await stage.live()
        feeding = asyncio.create_task(feed(kafka_broker, stage.application, load, allowed, stop))
        for point in points:
            await until_dead(stage, dying, point, tmp_path)
        dying.wanted = True
        async with asyncio.timeout(60):
            await stage.live()
        stop.set()
        load = replace(load, records=await feeding)
        left = await stage.drain(60)
        await stage.end()
        assert stage.crashes == []
        assert left == 0, other.tail() + dying.tail()
        assert await stage.open_transactions() == 0
        found = await verified(kafka_broker, stage.application, load)
    assert {name: each.lost for name, each in found.items() if each.lost} == {}
    if guarantee == EXACTLY_ONCE:
        assert {name: each for name, each in found.items() if each != Findings(each.rows)} == {}
