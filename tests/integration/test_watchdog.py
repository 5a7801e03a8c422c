"""Workers behind a network that fails in part: they mend themselves or end with an error, and lose nothing."""

import asyncio
import logging
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamlib import KafkaStreams
from streamlib.record import TopicPartition
from streamlib.testing.kafka_broker import KafkaBroker, free_port
from tests.integration.counting import SETTINGS, Counting, counting, until
from tests.proxy.frames import Api, Kind
from tests.proxy.proxy import Proxy
from tests.proxy.rules import Action

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

log = logging.getLogger(__name__)

STALL_MS = 1_000
WORDS = 2_000


@pytest.fixture
async def proxy(kafka_broker: str) -> AsyncIterator[Proxy]:
    async with Proxy(kafka_broker) as proxy:
        yield proxy


def streams(app: Counting, proxy: Proxy, folder: Path, **settings: object) -> KafkaStreams:
    """A worker in this process, which sees the broker through the proxy."""
    pairs = {**SETTINGS, "stall_timeout_ms": STALL_MS, "state_dir": folder, **settings}
    return KafkaStreams(counting(app.name), pairs, broker=f"kafka://{proxy.address}")


async def ready(running: KafkaStreams) -> None:
    await until(lambda: running.health().ready and len(running.tasks) == 4, 30)


def steps(running: KafkaStreams, step: str) -> int:
    return running.metrics.total("watchdog_steps_total", step=step)


@pytest.mark.parametrize(("step", "api"), [("refetch", Api.METADATA), ("rejoin", Api.JOIN_GROUP)])
async def test_a_partition_goes_on_when_a_step_helps(
    app: Counting, proxy: Proxy, tmp_path: Path, step: str, api: Api
) -> None:
    await app.create(2)
    async with streams(app, proxy, tmp_path / "w") as running:
        await ready(running)
        rule = proxy.hide_records(TopicPartition(f"{app.name}-in", 1))
        await app.write(WORDS)
        began = asyncio.get_running_loop().time()
        await until(lambda: steps(running, step), 20)
        took = asyncio.get_running_loop().time() - began
        reading = proxy.seen(Api.FETCH)[-1].connection

        def asked() -> bool:
            """Whether the worker has asked for the leader, or to be let into the group."""
            frames = [frame for frame in proxy.seen(api) if frame.at > began]
            return any(api is Api.JOIN_GROUP or frame.connection == reading for frame in frames)

        await until(asked, 5)
        rule.lift()
        await app.drained()
        await until(lambda: running.health().ready, 10)
        log.info("%s after %.1f s and %d answers without records", step, took, rule.hits)
        assert (steps(running, "refetch"), steps(running, "rejoin")) == ((1, 0) if step == "refetch" else (1, 1))
    assert await app.counts() == app.expected


async def test_the_worker_ends_with_an_error_when_a_partition_never_goes_on(
    app: Counting, proxy: Proxy, tmp_path: Path
) -> None:
    await app.create(2)
    tp = TopicPartition(f"{app.name}-in", 1)
    rule = proxy.hide_records(tp)
    app.broker = proxy.address
    port = free_port()
    worker = app.worker("w", "--health-port", str(port), stall_timeout_ms=STALL_MS)
    await until(lambda: len(worker.tasks()) == 4, 30, worker)
    await app.write(WORDS)
    pages = []
    while worker.process.poll() is None:
        pages.append(await asyncio.to_thread(page, port))
        await asyncio.sleep(0.1)
    assert await worker.ended() == 1
    assert {200, 503} <= {status for status, _ in pages}
    assert any(status == 200 and '"step": "refetch"' in text for status, text in pages)
    assert any(status == 503 and '"step": "rejoin"' in text for status, text in pages)
    error = next(line for line in worker.text.splitlines() if line.startswith("error: "))
    assert f"topic={tp.topic} partition=1 offset=0: no progress" in error
    assert "Traceback" not in worker.text
    # What it has got nevertheless is not lost for the next one.
    rule.lift()
    app.workers.remove(worker)
    again = app.worker("w", stall_timeout_ms=STALL_MS)
    await app.drained()
    assert await again.stopped() == 0
    await app.check()


def page(port: int) -> tuple[int, str]:
    """Status and text of a worker's health."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
    except OSError:
        return 0, ""  # it does not listen yet, or no more


async def test_a_worker_joins_and_commits_when_the_coordinator_is_slow(
    app: Counting, proxy: Proxy, tmp_path: Path
) -> None:
    await app.create(2)
    for api in (Api.FIND_COORDINATOR, Api.JOIN_GROUP, Api.SYNC_GROUP):
        proxy.add(api, Kind.ANSWER, Action.DELAY, seconds=1.0, times=2)
    for api in (Api.HEARTBEAT, Api.OFFSET_COMMIT):
        proxy.add(api, Kind.REQUEST, Action.DELAY, seconds=0.5)
    async with streams(app, proxy, tmp_path / "w") as running:
        await ready(running)
        await app.write(WORDS)
        await app.drained()
        assert steps(running, "rejoin") == steps(running, "exit") == 0
    assert await app.counts() == app.expected


async def test_a_worker_ends_with_an_error_when_it_is_never_let_into_the_group(
    app: Counting, proxy: Proxy, tmp_path: Path
) -> None:
    await app.create(2)
    proxy.add(Api.JOIN_GROUP, Kind.REQUEST, Action.HALF_CLOSE)
    app.broker = proxy.address
    worker = app.worker("w", stall_timeout_ms=STALL_MS, rebalance_timeout_ms=1_000)
    assert await worker.ended() == 1
    error = re.search(
        rf"^error: group={app.name}: no progress for (\d+) s: the group has not decided", worker.text, re.M
    )
    assert error, worker.text
    # Two steps after two seconds each, a look being late by up to half a second; a call that found no broker in between
    # begins the count anew.
    assert 2 <= int(error[1]) <= 5
    app.workers.remove(worker)


@pytest.mark.parametrize("kind", Kind)
async def test_nothing_is_lost_when_connections_are_half_closed(
    app: Counting, proxy: Proxy, tmp_path: Path, kind: Kind
) -> None:
    await app.create(2)
    async with streams(app, proxy, tmp_path / "w") as running:
        await ready(running)
        async with app.load(1_000):
            await asyncio.sleep(0.5)
            assert proxy.each(lambda connection: connection.half_close(kind)) > 2
            await asyncio.sleep(0.5)
        await app.drained()
        assert steps(running, "exit") == 0
    assert await app.lost() == {}


async def test_nothing_is_lost_when_connections_fall_silent(app: Counting, proxy: Proxy, tmp_path: Path) -> None:
    await app.create(2)
    async with streams(app, proxy, tmp_path / "w", stall_timeout_ms=10_000) as running:
        await ready(running)
        async with app.load(1_000):
            await asyncio.sleep(0.5)
            assert proxy.each(lambda connection: connection.silence()) > 2
            await asyncio.sleep(0.5)
        log.info("drained %.1f s after its connections fell silent", await app.drained(150))
        assert steps(running, "exit") == 0
    assert await app.lost() == {}


async def test_the_watchdog_keeps_still_when_the_broker_is_restarted(
    app: Counting, proxy: Proxy, tmp_path: Path, kafka_cluster: KafkaBroker
) -> None:
    await app.create(2)
    async with streams(app, proxy, tmp_path / "w") as running:
        await ready(running)
        async with app.load(1_000):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(kafka_cluster.stop)
            await asyncio.sleep(4 * STALL_MS / 1000)
            assert not running.failed
            assert running.health().alive
            await asyncio.to_thread(kafka_cluster.start)
            await asyncio.sleep(0.5)
        await app.drained()
        assert steps(running, "exit") == 0
        await until(lambda: running.health().ready, 10)
    assert await app.lost() == {}
