"""A disk that is full, or has damaged what was written: the worker mends its state by itself, and nothing is lost."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from streamlib import SessionWindows, StreamsBuilder, serdes
from streamlib.errors import StateCorruptedError

KEYS = [f"{number:04}" + "x" * 10_000 for number in range(1_000)]
ONCE = [(key, "v", 1) for key in KEYS]


def counting(by: str = "keys"):
    builder = StreamsBuilder("counting", default_key_serde=serdes.STRING, default_value_serde=serdes.STRING)
    keys = builder.stream("in").group_by_key()
    if by == "keys":
        counts = keys.count(store="counts").to_stream()
    else:
        sessions = keys.windowed_by(SessionWindows.of(timedelta(seconds=5))).count(store="counts").to_stream()
        counts = sessions.select_key(lambda session, _: session.key)
    counts.to("out", value_serde=serdes.INT64)
    return builder.build()


async def check_counts(app, times: int) -> None:
    """Each key was counted so often; exactly once, by ones."""
    counts: dict[bytes, list[int]] = {}
    for key, value, _ in await app.read("out"):
        counts.setdefault(key, []).append(int.from_bytes(value, "big"))
    assert len(counts) == len(KEYS)
    assert {seen[-1] for seen in counts.values()} == {times}
    if app.guarantee == "exactly_once_v2":
        assert all(seen == sorted(set(seen)) for seen in counts.values())


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.01)


def mount(*options: str) -> bool:
    return subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("standbys", [0, 1])
async def test_a_full_disk_holds_a_worker_up_until_there_is_room(
    app, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, standbys: int
) -> None:
    monkeypatch.setattr("streamlib.runtime.worker.DISK_FULL_SECONDS", 0.05)
    monkeypatch.setattr("streamlib.runtime.standby.RETRY_SECONDS", 0.05)
    small = tmp_path / "small"
    small.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)):
        pytest.skip("mounting is not allowed here")
    full = {"state_dir": small / "state", "state_min_free_bytes": 0, "num_standby_replicas": standbys}
    try:
        await app.create(2, "in", "out")
        await app.produce("in", ONCE)
        async with app.streams(counting(), worker="w1", num_standby_replicas=standbys) as other:
            async with app.streams(counting(), **full) as streams:
                await until(lambda: "the disk is full; free some space" in caplog.text)
                await asyncio.sleep(0.5)
                health = streams.health()
                assert health.alive
                assert not health.ready
                assert mount("-o", "remount,size=100m", str(small))
                await app.drained(streams, "in")
                await app.produce("in", ONCE)
                await app.drained(streams, "in")
            assert not other.failed
        await check_counts(app, 2)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def damage(state: Path) -> None:
    """Change a few bytes in the middle of the rows of a store."""
    file = max(state.rglob("*.sst"), key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8 * b"\xa5")
    file.write_bytes(content)


async def restored(app, by: str = "keys") -> Path:
    """A state directory whose stores were read from their changelogs, and so lie in their tables."""
    await app.create(1, "in", "out")
    await app.produce("in", ONCE[:-1])
    await app.run(counting(by), "in", worker="first")
    await app.produce("in", ONCE[-1:])
    await app.run(counting(by), "in", worker="second")
    return app.state_dir / "second"


@pytest.mark.parametrize("by", ["keys", "sessions"])
async def test_state_that_proves_damaged_when_it_is_read_is_set_aside_and_rebuilt(
    app, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    state = await restored(app, by)
    damage(state)
    await app.produce("in", ONCE)
    await app.run(counting(by), "in", worker="second")
    await check_counts(app, 2)
    assert "whose files are damaged" in caplog.text
    assert len(list(state.rglob("*.corrupt-*"))) == 1


async def test_a_worker_stops_when_its_state_is_damaged_again_and_again(app, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlib.runtime.task_manager.REBUILDS", 0)
    state = await restored(app)
    damage(state)
    await app.produce("in", ONCE)
    with pytest.raises(StateCorruptedError, match=r"cannot read table .* in .*second.*damaged"):
        await app.run(counting(), "in", worker="second")
    shutil.rmtree(state)
    await app.run(counting(), "in", worker="second")
    await check_counts(app, 2)
