"""A broker that is not there yet, goes away, or comes and goes: workers wait, say so in few words, and lose nothing."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from streamlib.testing.kafka_broker import KafkaBroker
from tests.integration.counting import Counting, Worker, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

# Longer than a session and a transaction, and than any single request may take; a nightly run takes two minutes.
OUTAGE_SECONDS = int(os.environ.get("STREAMLIB_OUTAGE_SECONDS", "15"))
EXACTLY_ONCE = {"processing_guarantee": "exactly_once_v2", "commit_interval_ms": 100}


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    with KafkaBroker() as running:
        yield running


@pytest.fixture(autouse=True)
def patient_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load of a test outlasts any outage; workers, which are processes, keep their own patience."""
    monkeypatch.setattr("streamlib.transport.kafka.producer.DELIVERY_TIMEOUT_S", 1_000.0)


@pytest.fixture
async def app(broker: KafkaBroker, tmp_path: Path) -> AsyncIterator[Counting]:
    app = Counting(broker.address, tmp_path)
    yield app
    await app.close()


async def test_a_worker_waits_for_its_broker_and_then_counts(app: Counting, broker: KafkaBroker) -> None:
    await app.create(2)
    await app.write(1_000)
    await asyncio.to_thread(broker.stop)
    try:
        worker, hasty = app.worker("w"), app.worker("hasty", broker_start_timeout_ms=1_000)
        assert await hasty.ended(20) == 1
        assert re.search(rf"^error: no Kafka broker answers at {broker.address}:.*", hasty.text, re.MULTILINE)
        assert "Traceback" not in hasty.text
        await until(lambda: "waiting for the broker" in worker.text, 20, worker)
        await asyncio.sleep(3)
        lines = [line for line in worker.text.splitlines() if " aiokafka" not in line]
        assert len(lines) == 1, worker.text
        assert f"WARNING streamlib.runtime.application: waiting for the broker at {broker.address}" in lines[0]
    finally:
        await asyncio.to_thread(broker.start)
    app.workers.remove(hasty)
    await app.drained()
    assert await app.counts() == app.expected
    assert await worker.stopped() == 0


async def outlasted(broker: KafkaBroker, worker: Worker) -> None:
    """Take the broker away for a while, which the worker must survive."""
    await asyncio.to_thread(broker.stop)
    try:
        await asyncio.sleep(OUTAGE_SECONDS)
        assert worker.process.poll() is None
    finally:
        await asyncio.to_thread(broker.start)


async def test_counting_goes_on_by_itself_when_the_broker_was_away_under_load(
    app: Counting, broker: KafkaBroker
) -> None:
    await app.create(4)
    worker = app.worker("w")
    async with app.load(2_000):
        await until(lambda: len(worker.tasks()) == 8, 30, worker)
        await asyncio.sleep(3)
        before = len(worker.text.splitlines())
        await outlasted(broker, worker)
        await asyncio.sleep(2)
    await app.drained(20)
    lines = worker.text.splitlines()[before:]
    assert len(lines) < 40, "\n".join(lines)
    assert not [line for line in lines if "ERROR   asyncio" in line or "Traceback" in line]
    assert await worker.stopped() == 0
    await app.check()


async def test_no_record_is_lost_when_the_broker_is_killed_amid_many_commits(
    app: Counting, broker: KafkaBroker
) -> None:
    await app.create(4)
    workers = [app.worker(name, commit_interval_ms=20) for name in ("one", "two")]
    async with app.load(2_000):
        await until(lambda: all(len(worker.tasks()) == 4 for worker in workers), 30, workers[0])
        await asyncio.sleep(2)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        await asyncio.sleep(1)
    await app.drained()
    assert [await worker.stopped() for worker in workers] == [0, 0]
    await app.check()


async def test_a_stop_while_the_broker_is_away_ends_in_time_and_loses_nothing(
    app: Counting, broker: KafkaBroker
) -> None:
    await app.create(2)
    worker = app.worker("w", shutdown_timeout_ms=3_000)
    await app.write(10_000)
    await app.drained()
    await app.write(10_000)
    await asyncio.to_thread(broker.kill)
    try:
        began = time.monotonic()
        assert await worker.stopped() == 0
        assert time.monotonic() - began < 15
        assert "Traceback" not in worker.text, worker.text
    finally:
        await asyncio.to_thread(broker.start)
    again = app.worker("w")
    await app.drained()
    assert await app.lost() == {}
    assert await again.stopped() == 0


async def test_every_record_counts_exactly_once_when_the_broker_was_away_for_longer_than_a_transaction_lasts(
    app: Counting, broker: KafkaBroker
) -> None:
    await app.create(2)
    worker = app.worker("w", **EXACTLY_ONCE)
    async with app.load(1_000):
        await until(lambda: len(worker.tasks()) == 4, 30, worker)
        await asyncio.sleep(2)
        await outlasted(broker, worker)
        await asyncio.sleep(2)
    await app.exact()
    assert await worker.stopped() == 0


async def test_every_record_counts_exactly_once_when_the_broker_is_killed_amid_many_transactions(
    app: Counting, broker: KafkaBroker
) -> None:
    await app.create(2)
    workers = [app.worker(name, **EXACTLY_ONCE) for name in ("one", "two")]
    async with app.load(1_000):
        await until(lambda: all(len(worker.tasks()) == 2 for worker in workers), 30, workers[0])
        for _ in range(2):
            await asyncio.sleep(2)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
        await asyncio.sleep(1)
    await app.exact()
    assert [await worker.stopped() for worker in workers] == [0, 0]
