"""What memory and local promise beyond the conformance suite: they share the code below the port."""

import pytest

from streamlib.errors import CommitError, DeliveryError, MissingTopicError
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata, TopicSpec
from streamlib.transport.embedded.admin import EmbeddedAdmin


@pytest.fixture
def make_transport(request, tmp_path):
    from streamlib.transport.local.transport import LocalTransport
    from streamlib.transport.memory import MemoryTransport

    if request.param == "local":
        return lambda: LocalTransport(tmp_path / "broker")
    first = MemoryTransport()
    return lambda: MemoryTransport(first.broker)


pytestmark = pytest.mark.parametrize("make_transport", ["memory", "local"], indirect=True)


async def test_delivery_fails_naming_the_topic_when_it_does_not_exist(bench):
    producer = await bench.producer()
    producer.append(TopicPartition("absent", 0), [b"k"], [b"v"], [1])
    with pytest.raises(DeliveryError, match="topic=absent"):
        await producer.flush()
    with pytest.raises(DeliveryError, match="topic=absent"):
        producer.append(await bench.partition(), [b"k"], [b"v"], [1])
    with pytest.raises(DeliveryError, match="kill this producer"):
        await producer.flush()


async def test_no_partition_is_written_when_one_of_them_does_not_exist(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    producer.append(tp, [b"k"], [b"v"], [1])
    producer.append(TopicPartition(tp.topic, 7), [b"k"], [b"v"], [1])
    with pytest.raises(DeliveryError, match=r"\[7\]"):
        await producer.flush()
    assert await bench.admin.end_offsets([tp]) == {tp: 0}


async def test_appending_is_refused_when_no_transaction_was_begun(bench):
    producer = await bench.producer(bench.name("tx"))
    with pytest.raises(DeliveryError, match="begin"):
        producer.append(await bench.partition(), [b"k"], [b"v"], [1])


async def test_poll_names_the_topic_when_it_was_deleted(bench):
    tp = await bench.partition()
    reader = await bench.reader({tp: 0})
    await bench.admin.delete_topics([tp.topic])
    with pytest.raises(MissingTopicError, match=tp.topic):
        await reader.poll([tp], max_records=1, timeout_ms=0)


async def test_topic_starts_anew_when_created_after_its_deletion(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(5))
    await bench.admin.set_group_offsets("g-anew", {tp: OffsetAndMetadata(5)})
    await bench.admin.delete_topics([tp.topic])
    await bench.admin.create_topics([TopicSpec(tp.topic, 1)])
    assert await bench.admin.end_offsets([tp]) == {tp: 0}
    assert await bench.admin.group_offsets("g-anew") == {}
    await bench.write(tp, [b"new"])
    assert await bench.values(tp, 1) == [b"new"]


async def test_large_records_pass_when_the_topic_allows_them(bench):
    topic = await bench.topic(configs={"max.message.bytes": "3000000"})
    tp = TopicPartition(topic, 0)
    await bench.write(tp, [b"x" * 1_400_000])
    producer = await bench.producer()
    with pytest.raises(DeliveryError, match="3000000"):
        producer.append(tp, [b"k"], [b"x" * 3_000_000], [1])


async def test_small_limits_hold_when_the_topic_has_one(bench):
    topic = await bench.topic(configs={"max.message.bytes": "100"})
    producer = await bench.producer()
    producer.append(TopicPartition(topic, 0), [b"k"] * 3, [b"x" * 50] * 3, [1] * 3)
    await producer.flush()
    producer.append(TopicPartition(topic, 0), [b"k"], [b"x" * 100], [1])
    with pytest.raises(DeliveryError, match="101 bytes"):
        await producer.flush()


async def test_group_rebalances_when_a_subscribed_topic_is_created_later(bench):
    early, late = await bench.topic(1), bench.name("late")
    member = await bench.member(bench.name("group"), [early, late])
    await member.wait_owned([TopicPartition(early, 0)])
    await bench.admin.create_topics([TopicSpec(late, 2)])
    await member.wait_owned([TopicPartition(early, 0), TopicPartition(late, 0), TopicPartition(late, 1)])
    revoked = [entry for entry in member.listener.log if entry[1] == "revoked"]
    assert revoked == [("member", "revoked", frozenset({TopicPartition(early, 0)}))]


async def test_poll_raises_what_the_assignor_raised_when_it_fails(bench, new_member):
    topic = await bench.topic()
    member = new_member(bench.transport, bench.name("group"), [topic], "member")

    def broken(partitions, members):
        msg = "no idea"
        raise ValueError(msg)

    member.assignor.assign = broken
    await member.consumer.start()
    with pytest.raises(ValueError, match="no idea"):
        await member.consumer.poll((), max_records=1, timeout_ms=5_000)
    await member.consumer.close()


async def test_many_small_appends_are_read_in_large_batches_when_delivered_together(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    for number in range(500):
        producer.append(tp, [None], [b"%d" % number], [1])
    await producer.flush()
    reader = await bench.reader({tp: 0})
    polled = await reader.poll([tp], max_records=10_000, timeout_ms=1_000)
    assert polled[tp].values == bench.numbered(500)


async def test_space_is_freed_when_records_are_deleted(bench, make_transport):
    tp = await bench.partition()
    for _ in range(70):
        await bench.write(tp, [b"x" * 1_000])
    assert isinstance(bench.admin, EmbeddedAdmin)
    await bench.admin.delete_records({tp: 70})
    kept = await bench.admin._broker.read(
        lambda store: store.database.connection.execute("SELECT count(*) FROM batches").fetchone()
    )
    assert kept == (0,)


async def test_offsets_are_refused_when_the_consumer_is_in_no_group(bench):
    reader = await bench.reader({})
    with pytest.raises(CommitError, match="in no group"):
        await reader.commit({})
    with pytest.raises(CommitError, match="in no group"):
        await reader.committed([])
