"""Topics, offsets and groups can be looked at and changed, on every broker."""

import pytest

from streamlib.errors import CommitError, MissingTopicError
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata, TopicSpec


async def test_partition_counts_name_only_what_exists_when_asked_for_some(bench):
    small, large = await bench.topic(1), await bench.topic(5)
    assert await bench.admin.partition_counts([small, large, bench.name("absent")]) == {small: 1, large: 5}
    every = await bench.admin.partition_counts()
    assert (every[small], every[large]) == (1, 5)
    assert not [name for name in every if name.startswith("__")]


async def test_existing_topic_is_left_alone_when_created_again(bench):
    topic, other = await bench.topic(2), bench.name("topic")
    tp = TopicPartition(topic, 0)
    await bench.write(tp, bench.numbered(3))
    await bench.admin.create_topics([TopicSpec(topic, 7, 1), TopicSpec(other, 1, 1)])

    async def other_exists():
        return other in await bench.admin.partition_counts([other])

    await bench.eventually(other_exists, "the other topic")
    assert await bench.admin.partition_counts([topic]) == {topic: 2}
    assert await bench.admin.end_offsets([tp]) == {tp: 3}


async def test_topic_configs_hold_given_and_default_values_when_created_with_some(bench):
    topic = await bench.topic(configs={"cleanup.policy": "compact", "retention.ms": "1234567"})
    configs = (await bench.admin.topic_configs([topic]))[topic]
    assert (configs["cleanup.policy"], configs["retention.ms"]) == ("compact", "1234567")
    assert configs["message.timestamp.type"] == "CreateTime"


async def test_missing_topics_are_named_when_asked_about(bench):
    absent = TopicPartition(bench.name("absent"), 0)
    with pytest.raises(MissingTopicError, match=absent.topic):
        await bench.admin.topic_configs([absent.topic])
    with pytest.raises(MissingTopicError, match=absent.topic):
        await bench.admin.end_offsets([absent])
    with pytest.raises(MissingTopicError, match=absent.topic):
        await bench.admin.beginning_offsets([absent])


async def test_deleted_topics_are_gone_when_some_did_not_exist(bench):
    topic = await bench.topic()
    await bench.admin.delete_topics([topic, bench.name("absent")])

    async def gone():
        return await bench.admin.partition_counts([topic]) == {}

    await bench.eventually(gone, "the topic to go")


async def test_beginning_moves_and_the_rest_stays_when_records_are_deleted(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(10))
    assert await bench.admin.beginning_offsets([tp]) == {tp: 0}
    await bench.admin.delete_records({tp: 4})
    assert await bench.admin.beginning_offsets([tp]) == {tp: 4}
    assert await bench.admin.end_offsets([tp]) == {tp: 10}
    reader = await bench.reader({tp: 4})
    assert (await bench.read(reader, tp, 6)).values == bench.numbered(6, 4)


async def test_offsets_for_time_point_at_the_first_record_not_older_when_times_are_mixed(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    for timestamps in ([10, 50, 20], [60, 30, 70]):
        producer.append(tp, [None] * 3, bench.numbered(3), timestamps)
        await producer.flush()
    found = [(await bench.admin.offsets_for_time([tp], moment))[tp] for moment in (0, 10, 15, 50, 51, 65, 71)]
    assert found == [0, 0, 1, 1, 3, 5, 6]


async def test_group_is_stable_then_empty_when_its_member_leaves(bench):
    member, [tp] = await bench.owning_member()
    group_id = member.metadata.group_id

    async def in_state(state):
        return (await bench.admin.describe_group(group_id)).state == state

    await bench.eventually(lambda: in_state("Stable"), "state Stable")
    assert list((await bench.admin.describe_group(group_id)).members) == [member.metadata.member_id]
    assert group_id in await bench.admin.groups()
    await member.consumer.commit({tp: OffsetAndMetadata(1)})
    await member.consumer.close()
    await bench.eventually(lambda: in_state("Empty"), "state Empty")
    assert (await bench.admin.describe_group(group_id)).members == {}
    assert (await bench.admin.describe_group(bench.name("absent"))).state == "Dead"


async def test_group_offsets_are_what_was_set_when_the_group_has_no_members(bench):
    topic, group_id = await bench.topic(2), bench.name("group")
    offsets = {TopicPartition(topic, 0): OffsetAndMetadata(3, "x"), TopicPartition(topic, 1): OffsetAndMetadata(4)}
    await bench.admin.set_group_offsets(group_id, offsets)
    assert await bench.admin.group_offsets(group_id) == offsets
    assert await bench.admin.group_offsets(bench.name("absent")) == {}


async def test_offsets_are_kept_from_change_when_the_group_has_members(bench):
    member, [tp] = await bench.owning_member()
    group_id = member.metadata.group_id
    await member.consumer.commit({tp: OffsetAndMetadata(1)})
    with pytest.raises(CommitError, match=group_id):
        await bench.admin.set_group_offsets(group_id, {tp: OffsetAndMetadata(0)})
    with pytest.raises(CommitError, match=group_id):
        await bench.admin.delete_group(group_id)
    assert await bench.admin.group_offsets(group_id) == {tp: OffsetAndMetadata(1)}


async def test_group_and_offsets_are_gone_when_the_group_is_deleted(bench):
    tp, group_id = await bench.partition(), bench.name("group")
    await bench.admin.set_group_offsets(group_id, {tp: OffsetAndMetadata(3)})
    await bench.admin.delete_group(group_id)
    assert await bench.admin.group_offsets(group_id) == {}
    assert group_id not in await bench.admin.groups()


async def test_records_and_topics_are_seen_when_made_through_another_transport(bench, make_transport):
    other = make_transport()
    await other.start()
    tp = await bench.partition()
    producer = other.producer()
    await producer.start()
    producer.append(tp, bench.numbered(3), bench.numbered(3), [1] * 3)
    await producer.flush()
    await producer.close()
    assert await bench.values(tp, 3) == bench.numbered(3)
    await other.close()
