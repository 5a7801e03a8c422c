"""Where workers begin to read inputs without a committed offset."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from streamlib import ConfigError, StreamsBuilder, serdes
from streamlib.topology.topology import Topology

S = serdes.STRING
HOUR_MS = 3_600_000


def copied(**options: Any) -> Topology:
    builder = StreamsBuilder("copies")
    builder.stream("in", S, S, **options).to("out")
    return builder.build()


async def with_old_and_new(app: Any) -> None:
    now = time.time_ns() // 1_000_000
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "old", now - 3 * HOUR_MS), ("b", "new", now - HOUR_MS), ("c", "newer", now)])


async def copies(app: Any) -> list[bytes | None]:
    return [key for key, _, _ in await app.read("out")]


async def test_reading_begins_at_the_first_record_that_is_not_older(app: Any) -> None:
    await with_old_and_new(app)
    await app.run(copied(offset_reset=timedelta(hours=2)), "in")
    assert await copies(app) == [b"b", b"c"]


async def test_the_source_goes_before_the_worker(app: Any) -> None:
    await with_old_and_new(app)
    await app.run(copied(offset_reset="earliest"), "in", auto_offset_reset="by_duration:PT2H")
    assert await copies(app) == [b"a", b"b", b"c"]


async def test_reading_begins_at_the_end_when_all_records_are_older(app: Any) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "old", 5)])
    async with app.streams(copied(), auto_offset_reset="by_duration:PT2H") as streams:
        async with asyncio.timeout(20):
            while streams.tasks != {"0_0": "running"}:
                await asyncio.sleep(0.01)
        await app.produce("in", [("b", "new", 6)])
        await app.drained(streams, "in")
    assert await copies(app) == [b"b"]


async def test_a_committed_offset_counts_whatever_the_reset_says(app: Any) -> None:
    await with_old_and_new(app)
    await app.run(copied(), "in")
    await app.produce("in", [("d", "old", 7)])
    await app.run(copied(offset_reset="none"), "in")
    assert await copies(app) == [b"a", b"b", b"c", b"d"]


async def test_the_worker_stops_when_it_has_to_have_an_offset_and_has_none(app: Any) -> None:
    await with_old_and_new(app)
    with pytest.raises(ConfigError, match="no offset is committed, and offset_reset is none: topic=in partition=0"):
        await app.run(copied(), "in", auto_offset_reset="none")
