"""The word count inside a FastAPI server: it answers, it counts, it stops."""

import asyncio
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from streamlib.kafka_streams import connect
from streamlib.record import TopicPartition
from streamlib.transport.base import TopicSpec

MINUTE = 1_700_000_040_000
DEADLINE_SECONDS = 20.0
EXPECTED = {"0_0": "running", "1_0": "running"}


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An embedded broker with one sentence; state goes to a temporary folder too."""
    address = f"local:{tmp_path / 'broker'}"
    monkeypatch.setenv("STREAMLIB_BROKER", address)
    monkeypatch.setenv("HOME", str(tmp_path))
    asyncio.run(write_sentence(address))
    return address


async def write_sentence(address: str) -> None:
    transport = connect(address)
    await transport.start()
    admin = await transport.admin()
    await admin.create_topics([TopicSpec("sentences", 1), TopicSpec("word-counts", 1)])
    producer = transport.producer()
    await producer.start()
    producer.append(TopicPartition("sentences", 0), [None], [b"to be or not to be"], [MINUTE])
    await producer.flush()
    await producer.close()
    await admin.close()
    await transport.close()


async def counts(address: str) -> list[int]:
    """The values of word-counts."""
    transport = connect(address)
    await transport.start()
    consumer = transport.consumer()
    await consumer.start()
    tp = TopicPartition("word-counts", 0)
    consumer.assign({tp: 0})
    polled = await consumer.poll([tp], max_records=100, timeout_ms=0)
    await consumer.close()
    await transport.close()
    return sorted(int.from_bytes(value or b"") for batch in polled.values() for value in batch.values)


@pytest.mark.slow
def test_the_worker_runs_and_commits_when_the_server_does(broker: str) -> None:
    from apps.fastapi_lifespan import app

    deadline = time.monotonic() + DEADLINE_SECONDS
    with TestClient(app) as client:
        while client.get("/health").json()["tasks"] != EXPECTED and time.monotonic() < deadline:
            time.sleep(0.05)
        answer = client.get("/health")
        assert (answer.status_code, answer.json()) == (200, {"running": True, "tasks": EXPECTED})
        metrics = app.state.streams.metrics
        while metrics.total("records_processed_total") < 7 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert asyncio.run(counts(broker)) == [1, 1, 2, 2]
