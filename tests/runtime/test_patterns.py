"""Workers read topics that match a pattern, also those that come and go while they run."""

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest

from streamlib import StreamsBuilder, Topology, serdes
from streamlib.errors import InternalTopicError, MissingTopicError
from streamlib.runtime import topic_watch
from tests.runtime.conftest import Application

S, I = serdes.STRING, serdes.INT64  # noqa: E741


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "SECONDS", 0.05)
    monkeypatch.setattr(topic_watch, "DOUBT_SECONDS", 0.05)


def counting(pattern: str = "in-.*", **options: Any) -> Topology:
    builder = StreamsBuilder("app")
    stream = builder.stream(re.compile(pattern), S, S)
    if options:
        stream = stream.repartition(name="by-key", **options)
    stream.group_by_key().count(store="counts").to_stream().to("out", value_serde=I)
    return builder.build()


def copying() -> Topology:
    builder = StreamsBuilder("app")
    builder.stream(re.compile("in-.*"), S, S).to("out")
    return builder.build()


async def values(app: Application, count: int, seconds: float = 20) -> list[bytes | None]:
    """What is in the output once it has so many records."""
    async with asyncio.timeout(seconds):
        while len(rows := await app.read("out")) < count:
            await asyncio.sleep(0.02)
    return sorted(row[1] for row in rows)


async def test_topics_that_match_at_the_start_are_read_together(app: Application) -> None:
    await app.create(2, "in-a", "in-b", "another", "out")
    for topic in ("in-a", "in-b", "another"):
        await app.produce(topic, [(key, topic, 1) for key in "kl"])
    async with app.streams(counting(), statestore_cache_max_bytes=0):
        assert await values(app, 4) == sorted(I.serialize(n) for n in (1, 2, 1, 2))


async def test_a_topic_that_is_made_later_is_read_and_counts_go_on(app: Application) -> None:
    await app.create(2, "in-a", "out")
    await app.produce("in-a", [("k", "x", 1)])
    async with app.streams(counting()):
        await values(app, 1)
        await app.create(2, "in-b")
        await app.produce("in-b", [("k", "y", 2)])
        assert await values(app, 2) == [I.serialize(1), I.serialize(2)]
    await app.produce("in-b", [("k", "z", 3)])
    async with app.streams(counting()):
        assert await values(app, 3) == [I.serialize(n) for n in (1, 2, 3)]


async def test_the_first_topic_may_come_after_the_worker(app: Application) -> None:
    await app.create(1, "out")
    async with app.streams(counting()):
        await asyncio.sleep(0.2)
        await app.create(3, "in-a")
        await app.produce("in-a", [("k", "x", 1)])
        assert await values(app, 1) == [I.serialize(1)]


async def test_two_workers_share_a_new_topic_once_both_know_it(app: Application) -> None:
    await app.create(4, "in-a", "out")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(app.streams(copying(), worker=name)) for name in ("w0", "w1")]
        await app.produce("in-a", [(str(n), f"a{n:02}", n) for n in range(20)])
        await values(app, 20)
        await app.create(4, "in-b")
        await app.produce("in-b", [(str(n), f"b{n:02}", n) for n in range(20)])
        found = await values(app, 40)
        assert not any(worker.failed for worker in workers)
    assert found == [f"{topic}{n:02}".encode() for topic in "ab" for n in range(20)]


async def test_a_topic_that_goes_is_read_no_more_and_the_worker_goes_on(app: Application) -> None:
    await app.create(1, "in-a", "in-b", "out")
    await app.produce("in-b", [("k", "1", 1)])
    async with app.streams(copying()) as worker:
        await values(app, 1)
        async with app.opened() as transport:
            admin = await transport.admin()
            await admin.delete_topics(["in-b"])
            await admin.close()
        await app.produce("in-a", [("k", "2", 2)])
        assert await values(app, 2) == [b"1", b"2"]
        await asyncio.sleep(0.5)
        await app.produce("in-a", [("k", "3", 3)])
        assert await values(app, 3) == [b"1", b"2", b"3"]
        assert not worker.failed


async def test_a_topic_that_is_wider_than_the_state_stops_the_worker(app: Application) -> None:
    await app.create(1, "in-a", "out")
    await app.produce("in-a", [("k", "x", 1)])

    async def widen() -> None:
        async with app.streams(counting()) as worker:
            await values(app, 1)
            await app.create(2, "in-b")
            await asyncio.wait_for(worker.wait(), 20)

    with pytest.raises(InternalTopicError, match='"app-counts-changelog" has 1 partitions, the topology needs 2'):
        await widen()


async def test_an_unknown_width_of_a_repartition_topic_is_told_at_the_start(app: Application) -> None:
    builder = StreamsBuilder("app")
    builder.stream(re.compile("in-.*"), S, S).group_by(lambda _, word: word, name="by-word").count(store="counts")
    await app.create(1, "out")
    with pytest.raises(MissingTopicError, match='no topic matches "in-\\.\\*" yet, so the number of partitions of'):
        async with app.streams(builder.build()):
            pass


async def test_a_repartition_topic_of_a_fixed_width_can_wait_for_its_topics(app: Application) -> None:
    await app.create(1, "out")
    async with app.streams(counting(partitions=2)):
        await app.create(1, "in-a")
        await app.produce("in-a", [("k", "x", 1)])
        assert await values(app, 1) == [I.serialize(1)]


async def test_the_applications_own_topics_match_no_pattern(app: Application) -> None:
    await app.create(1, "in-a", "out")
    await app.produce("in-a", [("k", "x", 1)])
    async with app.streams(counting("(?!out).*")):
        await values(app, 1)
        await asyncio.sleep(0.3)
    assert len(await app.read("out")) == 1
