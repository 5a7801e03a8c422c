"""`KafkaStreams` in somebody's own event loop: several at once, left or cancelled at any moment, nothing left over."""

import asyncio
import gc
from pathlib import Path

import pytest

from streamlib.record import TopicPartition
from tests.integration.counting import Counting, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


class Restoring:
    """A restore listener that tells when a changelog is being read."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.records = 0

    def started(self, tp: TopicPartition, store: str, start: int, end: int) -> None:
        pass

    def progressed(self, tp: TopicPartition, records: int) -> None:
        self.records += records
        self.began.set()

    def finished(self, tp: TopicPartition) -> None:
        pass


def leftovers(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What asyncio complains about: exceptions nobody asked for, tasks destroyed while they were pending."""
    gc.collect()
    return [record.getMessage() for record in caplog.records if record.name == "asyncio"]


async def test_two_applications_run_beside_each_other(app: Counting, kafka_broker: str, tmp_path: Path) -> None:
    other = Counting(kafka_broker, tmp_path)
    try:
        await app.create(2)
        await other.create(2)
        await asyncio.gather(app.write(5_000), other.write(3_000))
        before = asyncio.all_tasks()
        async with app.streams("a") as first, other.streams("b") as second:
            await asyncio.gather(app.drained(), other.drained())
            assert set(first.tasks) == set(second.tasks) == {"0_0", "0_1", "1_0", "1_1"}
        assert asyncio.all_tasks() == before
        assert await app.counts() == app.expected
        assert await other.counts() == other.expected
    finally:
        await other.close()


async def test_leaving_while_state_is_restored_leaves_nothing_behind(
    app: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    await app.create(2)
    async with app.streams("first", commit_interval_ms=10) as streams, app.load(10_000):
        await asyncio.sleep(3)
    before = asyncio.all_tasks()
    listener = Restoring()
    async with app.streams("second", listener=listener) as streams:
        await listener.began.wait()
        assert "restoring" in streams.tasks.values()
    assert asyncio.all_tasks() == before
    assert leftovers(caplog) == []
    async with app.streams("second"):
        await app.drained()
    assert await app.counts() == app.expected


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_application_leaves_nothing_behind_and_loses_nothing(
    app: Counting, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        async with app.streams("w", shutdown_timeout_ms=5_000) as streams:
            await streams.wait()

    await app.create(2)
    for seconds in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        await app.write(2_000)
        before = asyncio.all_tasks()
        serving = asyncio.create_task(serve())
        await asyncio.sleep(seconds)
        for _ in range(times):
            serving.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(15):
            await asyncio.wait([serving])
        assert serving.cancelled()
        assert asyncio.all_tasks() == before
    assert leftovers(caplog) == []
    async with app.streams("w") as streams:
        await app.drained()
        await until(lambda: set(streams.tasks.values()) == {"running"}, 10)
    assert await app.lost() == {}
    if times == 1:  # a worker that is cancelled once commits; one that is cancelled again while it does may not
        assert await app.counts() == app.expected
