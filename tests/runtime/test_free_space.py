"""A worker without room for its state reads nothing, keeps its tasks, and goes on when there is room again."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from streamlib import KafkaStreams, StreamsBuilder, serdes

TEXT = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}
MIB = 1024 * 1024
LEAST = 64 * MIB
TOPICS = ("in", "counting-counts-repartition")
WORDS = [(None, f"w{n % 5}", n) for n in range(100)]


class Disk:
    """A file system.

    Attributes:
        free: How much room it has.
        looks: How often it had more than enough before.
    """

    def __init__(self) -> None:
        self.free = 1_000 * MIB
        self.looks = 0

    def __call__(self, path: Path) -> int:
        self.looks -= 1
        return 1_000 * MIB if self.looks >= 0 else self.free


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("streamlib.runtime.free_space.free_bytes", disk)
    monkeypatch.setattr("streamlib.runtime.free_space.SECONDS", 0.02)
    return disk


def counting():
    builder = StreamsBuilder("counting")
    stream = builder.stream("in", **TEXT).group_by(lambda _, word: word)
    stream.count(store="counts").to_stream().to("out", value_serde=serdes.INT64)
    return builder.build()


async def counts(app) -> dict[str, int]:
    return {key.decode(): int.from_bytes(value, "big") for key, value, _ in await app.read("out")}


def each(count: int) -> dict[str, int]:
    return dict.fromkeys(("w0", "w1", "w2", "w3", "w4"), count)


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.01)


def without_room(streams: KafkaStreams) -> bool:
    return any("MiB free: nothing is read until there is more" in problem for problem in streams.health().problems)


async def stands_still(app, streams: KafkaStreams, seconds: float) -> None:
    """Check that nothing happens, for longer than a session and a stall may last."""
    before, tasks = await counts(app), dict(streams.tasks)
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
        health = streams.health()
        assert health.alive
        assert not health.ready
        assert streams.tasks == tasks
    assert await counts(app) == before
    assert streams.metrics.total("watchdog_steps_total") == 0


BRIEFLY = {
    "session_timeout_ms": 300,
    "heartbeat_interval_ms": 50,
    "stall_timeout_ms": 200,
    "transaction_timeout_ms": 200,
    "state_min_free_bytes": LEAST,
}


async def test_reading_stops_while_there_is_too_little_room_and_goes_on_by_itself(app, disk: Disk) -> None:
    await app.create(2, "in", "out")
    await app.produce("in", WORDS)
    async with app.streams(counting(), **BRIEFLY) as streams:
        await app.drained(streams, *TOPICS)
        disk.free = LEAST - 1
        await until(lambda: without_room(streams))
        await app.produce("in", WORDS)
        await stands_still(app, streams, 1.0)
        disk.free = 2 * LEAST
        await app.drained(streams, *TOPICS)
        assert not without_room(streams)
    assert await counts(app) == each(40)


async def test_restoring_stops_while_there_is_too_little_room_and_goes_on_by_itself(app, disk: Disk) -> None:
    await app.create(2, "in", "out")
    await app.produce("in", WORDS)
    await app.run(counting(), *TOPICS)
    await app.produce("in", WORDS)
    streams = app.streams(counting(), worker="second", **BRIEFLY)
    disk.looks, disk.free = 1, LEAST - 1  # enough to start
    async with streams:
        states = {"0_0": "running", "0_1": "running", "1_0": "restoring", "1_1": "restoring"}
        await until(lambda: streams.tasks == states and without_room(streams))
        await stands_still(app, streams, 1.0)
        disk.free = 2 * LEAST
        await app.drained(streams, *TOPICS)
    assert await counts(app) == each(40)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_reading_stops_while_a_real_file_system_is_nearly_full(
    app, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlib.runtime.free_space.SECONDS", 0.02)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        await app.create(2, "in", "out")
        await app.produce("in", WORDS)
        settings = {**BRIEFLY, "state_dir": small / "state", "state_min_free_bytes": 16 * MIB}
        async with app.streams(counting(), **settings) as streams:
            await app.drained(streams, *TOPICS)
            filler = small / "filler"
            filler.write_bytes(bytes(34 * MIB))
            await until(lambda: without_room(streams))
            await app.produce("in", WORDS)
            await stands_still(app, streams, 0.5)
            filler.unlink()
            await app.drained(streams, *TOPICS)
        assert await counts(app) == each(40)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
