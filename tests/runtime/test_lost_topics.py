"""Topics that go, come back empty, or get wider: the worker says what is lost and stops, unless told to go on."""

import asyncio
import json
import logging
import shutil
from collections.abc import Awaitable, Callable

import pytest

from streamlib import StreamsBuilder, Topology, serdes
from streamlib.errors import DataLossError, InternalTopicError
from streamlib.transport.base import TopicSpec
from tests.runtime.conftest import Application

CHANGELOG = "app-counts-changelog"


def counting() -> Topology:
    builder = StreamsBuilder("app")
    counted = builder.stream("in", serdes.STRING, serdes.STRING).group_by_key().count(store="counts")
    counted.to_stream().to("out", value_serde=serdes.INT64)
    return builder.build()


async def counts(app: Application) -> list[tuple[str, int]]:
    return [(key.decode(), int.from_bytes(value, "big")) for key, value, _ in await app.read("out")]


async def delete(app: Application, topic: str, *, again: int = 0) -> None:
    async with app.opened() as transport:
        admin = await transport.admin()
        await admin.delete_topics([topic])
        if again:
            await admin.create_topics([TopicSpec(topic, again, 1)])
        await admin.close()


async def widen(app: Application, topic: str, partitions: range) -> None:
    """Add partitions, as an administrator does on Kafka."""
    rows = [(topic, number) for number in partitions]
    await app.broker.write(
        lambda store: store.database.connection.executemany(
            "INSERT INTO partitions (topic, partition) VALUES (?, ?)", rows
        )
    )


async def run_once(app: Application) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1), ("a", "2", 2)])
    await app.run(counting(), "in")
    assert (await counts(app))[-1] == ("a", 2)


async def test_a_changelog_that_was_deleted_is_not_made_anew_in_silence(app: Application) -> None:
    await run_once(app)
    await delete(app, CHANGELOG)
    with pytest.raises(DataLossError, match=rf'changelog topic "{CHANGELOG}" was deleted.*the state it held is lost'):
        await app.run(counting(), "in")
    async with app.opened() as transport:
        admin = await transport.admin()
        assert CHANGELOG not in await admin.partition_counts()
        await admin.close()


async def test_counting_starts_from_nothing_when_the_loss_of_a_changelog_was_accepted(app: Application) -> None:
    await run_once(app)
    await delete(app, CHANGELOG)
    await app.produce("in", [("a", "3", 3)])
    await app.run(counting(), "in", on_data_loss="earliest")
    assert (await counts(app))[-1] == ("a", 1)
    await app.run(counting(), "in")  # asked once


async def test_the_state_of_another_changelog_is_set_aside_when_the_other_worker_accepted_its_loss(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await run_once(app)
    shutil.copytree(app.state_dir / "w0", app.state_dir / "w1")
    await delete(app, CHANGELOG)
    await app.produce("in", [("b", str(n), n) for n in range(5)])
    await app.run(counting(), "in", on_data_loss="earliest")
    await app.produce("in", [("a", "3", 3)])
    with caplog.at_level(logging.WARNING):
        await app.run(counting(), "in", worker="w1")
    assert "the state of task 0_0 is of topics that were made anew" in caplog.text
    assert (await counts(app))[-1] == ("a", 1)


async def test_a_changelog_that_is_made_although_records_were_processed_is_told_where_nothing_is_remembered(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await run_once(app)
    await delete(app, CHANGELOG)
    shutil.rmtree(app.state_dir)
    with caplog.at_level(logging.WARNING):
        await app.run(counting(), "in")
    assert f"app has processed records already, and these topics are made now: {CHANGELOG}" in caplog.text


async def test_a_source_topic_that_was_made_anew_is_not_read_from_its_start_in_silence(app: Application) -> None:
    await run_once(app)
    await delete(app, "in", again=1)
    await app.produce("in", [("a", str(n), n) for n in range(5)])
    with pytest.raises(
        DataLossError, match=r'source topic "in" was deleted and made anew.*\(its id was .* and is .*\)'
    ):
        await app.run(counting(), "in")
    assert (await counts(app))[-1] == ("a", 2)


@pytest.mark.parametrize(("policy", "last"), [("earliest", 7), ("latest", 3)])
async def test_a_source_topic_that_was_made_anew_is_read_from_where_the_policy_says(
    app: Application, policy: str, last: int
) -> None:
    await run_once(app)
    await delete(app, "in", again=1)
    await app.produce("in", [("a", str(n), n) for n in range(4)])
    async with app.streams(counting(), on_data_loss=policy) as streams:
        await app.drained(streams, "in")
        await app.produce("in", [("a", "last", 9)])
        await app.drained(streams, "in")
    assert (await counts(app))[-1] == ("a", last)


async def test_a_source_topic_that_was_deleted_is_told_as_a_loss(app: Application) -> None:
    await run_once(app)
    await delete(app, "in")
    with pytest.raises(DataLossError, match='source topic "in" was deleted since this worker last ran'):
        await app.run(counting(), "in")


async def test_a_topic_of_a_global_table_may_be_made_anew(app: Application) -> None:
    builder = StreamsBuilder("app")
    table = builder.global_table("rows", serdes.STRING, serdes.STRING, store="rows")
    stream = builder.stream("in", serdes.STRING, serdes.STRING)
    joined = stream.join(table, lambda left, right: f"{left}{right}", key_selector=lambda key, _: key)
    joined.to("out")
    topology = builder.build()
    await app.create(1, "in", "out", "rows")
    await app.produce("rows", [("a", "old", 1), ("gone", "old", 1)])
    await app.produce("in", [("a", "1", 1)])
    await app.run(topology, "in")
    await delete(app, "rows", again=1)
    await app.produce("rows", [("a", "new", 1), ("b", "new", 1), ("c", "new", 1)])
    await app.produce("in", [("a", "2", 2), ("gone", "2", 2)])
    await app.run(topology, "in")
    assert [value for _, value, _ in await app.read("out")] == [b"1old", b"2new"]


async def test_what_was_remembered_is_left_out_of_account_when_it_cannot_be_read(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await run_once(app)
    (kept,) = app.state_dir.glob("*/app/topics.json")
    for text in ("{", "[]", '{"format": 99}', json.dumps({"format": 1, "topics": 5})):
        kept.write_text(text)
        await app.run(counting(), "in")
        assert "topics.json is left out of account" in caplog.text
        assert '"in"' in kept.read_text()
        caplog.clear()


async def run_until_stopped(app: Application, happens: Callable[[], Awaitable[None]]) -> None:
    async with app.streams(counting()) as streams:
        await app.drained(streams, "in")
        await happens()
        async with asyncio.timeout(20):
            await streams.wait()


async def test_a_source_topic_that_is_replaced_under_a_running_worker_stops_it(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlib.runtime.topic_watch.SECONDS", 0.1)
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1)])
    with pytest.raises(DataLossError, match='source topic "in" was deleted and made anew while this worker ran'):
        await run_until_stopped(app, lambda: delete(app, "in", again=1))


async def test_a_wider_source_topic_stops_a_running_worker_with_both_widths_and_the_mend(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlib.runtime.topic_watch.SECONDS", 0.1)
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1)])
    with pytest.raises(InternalTopicError, match=r'"in" has 3 partitions now, it had 1 .*streamlib reset or a new'):
        await run_until_stopped(app, lambda: widen(app, "in", range(1, 3)))


async def test_a_wider_source_topic_is_refused_by_a_stateful_application_with_both_widths_and_the_mend(
    app: Application,
) -> None:
    await run_once(app)
    await widen(app, "in", range(1, 3))
    with pytest.raises(
        InternalTopicError,
        match=f'changelog topic "{CHANGELOG}" has 1 partitions, the topology needs 3.*streamlib reset',
    ):
        await app.run(counting(), "in")


async def test_a_wider_source_topic_is_read_whole_by_a_stateless_application(app: Application) -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", serdes.STRING, serdes.STRING).to("out")
    topology = builder.build()
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1)])
    await app.run(topology, "in")
    await widen(app, "in", range(1, 3))
    await app.produce("in", [(key, "2", 2) for key in "abcdefgh"])
    await app.run(topology, "in")
    assert sorted(key for key, _, _ in await app.read("out")) == sorted(key.encode() for key in "aabcdefgh")
