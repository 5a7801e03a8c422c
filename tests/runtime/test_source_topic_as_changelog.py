"""A table whose source topic is its changelog: on a worker, through restarts and the loss of its disk."""

import shutil
import warnings

import pytest

from streamlib import StreamsBuilder, UnstableNameWarning, serdes
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata

TEXT = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def joined(optimization="all"):
    """Clicks with what the table of users has for their keys."""
    builder = StreamsBuilder("app")
    users = builder.table("users", serdes.STRING, serdes.JSON, store="users-store")
    builder.stream("clicks", **TEXT).left_join(users, lambda click, user: f"{click}:{user}").to("out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        return builder.build(optimization=optimization)


async def seen(app) -> list[bytes]:
    return [value for _, value, _ in await app.read("out")]


async def start(app, **settings):
    await app.create(1, "users", "clicks", "out")
    await app.produce("users", [("a", '"Ann"', 1), ("b", '"Bob"', 2), ("c", '"Cy"', 3), ("c", "null", 4)])
    await app.run(joined(), "users", **settings)
    await app.produce("users", [("b", None, 5)])
    await app.run(joined(), "users", **settings)


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
async def test_rows_come_back_from_the_source_topic_when_a_worker_starts_again(app, lost: bool) -> None:
    await start(app)
    if lost:
        shutil.rmtree(app.state_dir)
    await app.produce("clicks", [("a", "1", 6), ("b", "2", 7), ("c", "3", 8)])
    await app.run(joined(), "clicks")
    assert await seen(app) == [b"1:Ann", b"2:None", b"3:None"]


async def test_the_source_topic_is_left_as_it_is_and_there_is_no_changelog(app) -> None:
    await start(app)
    async with app.opened() as transport:
        admin = await transport.admin()
        counts = await admin.partition_counts(None)
        first = await admin.beginning_offsets([TopicPartition("users", 0)])
        await admin.close()
    assert set(counts) == {"users", "clicks", "out"}
    assert first == {TopicPartition("users", 0): 0}
    assert len(await app.read("users")) == 5


async def test_only_what_was_committed_is_restored_when_the_topic_has_more(app) -> None:
    await start(app)
    shutil.rmtree(app.state_dir)
    async with app.opened() as transport:
        admin = await transport.admin()
        await admin.set_group_offsets("app", {TopicPartition("users", 0): OffsetAndMetadata(1, "")})
        await admin.close()
    # The click is older than the second user, so it meets the table as far as it was committed.
    await app.produce("clicks", [("a", "1", 1), ("b", "2", 1)])
    await app.run(joined(), "clicks", "users")
    assert await seen(app) == [b"1:Ann", b"2:None"]


async def test_a_record_that_was_skipped_is_left_out_when_rows_come_back(app) -> None:
    await app.create(1, "users", "clicks", "out")
    await app.produce("users", [("a", '"Ann"', 1), ("a", "no json", 2)])
    await app.run(joined(), "users", deserialization_exception_handler="skip")
    shutil.rmtree(app.state_dir)
    await app.produce("clicks", [("a", "1", 6)])
    await app.run(joined(), "clicks", deserialization_exception_handler="skip")
    assert await seen(app) == [b"1:Ann"]
