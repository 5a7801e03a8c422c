"""A worker whose broker is not there yet: it waits, says so, and gives up in the end."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamlib.errors import BrokerUnavailableError
from streamlib.testing.kafka_broker import KafkaBroker
from tests.integration.counting import Counting, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def broker():
    with KafkaBroker() as running:
        yield running


@pytest.fixture
async def app(broker: KafkaBroker, tmp_path: Path) -> AsyncIterator[Counting]:
    app = Counting(broker.address, tmp_path)
    yield app
    await app.close()


async def test_a_worker_waits_for_its_broker_with_few_words_and_then_counts(
    app: Counting, broker: KafkaBroker
) -> None:
    await app.create(2)
    await app.write(1_000)
    await app.close()
    await asyncio.to_thread(broker.stop)
    worker = app.worker("w")
    try:
        await until(lambda: "waiting for the broker" in worker.text, 20, worker)
        await asyncio.sleep(5)
        lines = worker.text.splitlines()
        assert len(lines) <= 3, worker.text
        assert all("WARNING" in line and broker.address in line for line in lines), worker.text
    finally:
        await asyncio.to_thread(broker.start)
    await app.drained()
    assert await app.counts() == app.expected
    assert await worker.stopped() == 0


async def test_a_worker_gives_up_when_its_broker_stays_away(app: Counting, broker: KafkaBroker) -> None:
    await app.create(1)
    await app.close()
    await asyncio.to_thread(broker.stop)
    try:
        worker = app.worker("w", broker_start_timeout_ms=2_000)
        assert await worker.ended(20) == 1
        assert re.search(rf"^error: no Kafka broker answers at {broker.address}:.*", worker.text, re.MULTILINE)
        assert "Traceback" not in worker.text
    finally:
        await asyncio.to_thread(broker.start)


async def test_a_start_goes_on_when_the_broker_comes_up_half_way_through_it(app: Counting, broker: KafkaBroker) -> None:
    """Each step of a start needs the broker, not only the first."""
    await app.create(2)
    await app.write(100)
    for delay in (0.0, 0.05, 0.1, 0.2, 0.4):
        streams = app.streams(f"at-{delay}", broker_start_timeout_ms=60_000)
        starting = asyncio.create_task(streams.__aenter__())
        await asyncio.sleep(delay)
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(60):
            await starting
        await streams.__aexit__()
    with pytest.raises(BrokerUnavailableError):
        await asyncio.to_thread(broker.stop)
        async with app.streams("never", broker_start_timeout_ms=1):
            pass
    await asyncio.to_thread(broker.start)
