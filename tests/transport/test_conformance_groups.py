"""Members share partitions and commit offsets under their generation only, on every broker."""

import asyncio
import dataclasses

import pytest

from streamlib.errors import CommitError, TransportError
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata


async def test_sole_member_owns_all_partitions_when_it_joins(bench):
    member, tps = await bench.owning_member(partitions=3)
    assert member.listener.log[-1] == ("member", "assigned", frozenset(tps))
    assert member.metadata.generation > 0
    assert member.metadata.member_id
    assert member.assignor.decisions[-1] == (frozenset(tps), b"for member")
    assert [seen.user_data for seen in member.assignor.seen[-1].values()] == [b"member"]
    assert [seen.topics for seen in member.assignor.seen[-1].values()] == [frozenset({tps[0].topic})]


async def test_assigned_partition_yields_nothing_when_not_yet_sought(bench):
    member, [tp] = await bench.owning_member()
    await bench.write(tp, bench.numbered(3))
    assert member.consumer.position(tp) is None
    await bench.nothing_more(member.consumer, tp)
    member.consumer.seek(tp, 1)
    assert (await bench.read(member.consumer, tp, 2)).values == bench.numbered(2, 1)


async def test_committed_offsets_and_metadata_come_back_when_the_member_restarts(bench):
    member, [first, second] = await bench.owning_member(partitions=2)
    assert await member.consumer.committed([first, second]) == {first: None, second: None}
    await member.consumer.commit({first: OffsetAndMetadata(7, "stream-time=42 é")})
    await member.consumer.commit({first: OffsetAndMetadata(8, "x" * 200)})
    group_id = member.metadata.group_id
    await member.consumer.close()
    again = await bench.member(group_id, [first.topic])
    await again.wait_owned([first, second])
    expected = {first: OffsetAndMetadata(8, "x" * 200), second: None}
    assert await again.consumer.committed([first, second]) == expected
    assert await bench.admin.group_offsets(group_id) == {first: OffsetAndMetadata(8, "x" * 200)}


async def test_listener_hears_nothing_when_the_consumer_closes(bench):
    member, _ = await bench.owning_member()
    heard = list(member.listener.log)
    await member.consumer.close()
    assert member.listener.log == heard


async def test_two_members_share_the_partitions_when_the_second_joins(bench):
    if bench.transport.max_workers == 1:
        pytest.skip("one worker at a time")
    topic, group_id, log = await bench.topic(4), bench.name("group"), []
    every = {TopicPartition(topic, partition) for partition in range(4)}
    first = await bench.member(group_id, [topic], bench.listener("first", log))
    await first.wait_owned(every)
    second = await bench.member(group_id, [topic], bench.listener("second", log))

    async def shared():
        for member in (first, second):
            await member.consumer.poll((), max_records=1, timeout_ms=10)
        return len(first.listener.owned) == len(second.listener.owned) == 2

    await bench.eventually(shared, "two partitions each")
    assert first.listener.owned | second.listener.owned == every
    assert log[0] == ("first", "assigned", frozenset(every))
    assert log[1] == ("first", "revoked", frozenset(every))
    assert {entry[:2] for entry in log[2:]} == {("first", "assigned"), ("second", "assigned")}
    assert first.metadata.generation == second.metadata.generation
    leader = first if len(first.assignor.seen) == 2 else second
    assert {seen.user_data for seen in leader.assignor.seen[-1].values()} == {b"first", b"second"}
    assert second.assignor.decisions[-1] == (second.listener.owned, b"for second")


async def test_remaining_member_takes_over_when_the_other_closes(bench):
    if bench.transport.max_workers == 1:
        pytest.skip("one worker at a time")
    topic, group_id, log = await bench.topic(4), bench.name("group"), []
    first = await bench.member(group_id, [topic], bench.listener("first", log))
    second = await bench.member(group_id, [topic], bench.listener("second", log))

    async def shared():
        for member in (first, second):
            await member.consumer.poll((), max_records=1, timeout_ms=10)
        return len(first.listener.owned) == len(second.listener.owned) == 2

    await bench.eventually(shared, "two partitions each")
    await first.consumer.close()
    await second.wait_owned(TopicPartition(topic, partition) for partition in range(4))


async def test_last_commit_counts_when_made_while_partitions_are_revoked(bench):
    if bench.transport.max_workers == 1:
        pytest.skip("one worker at a time")
    member, tps = await bench.owning_member(partitions=2)
    last = {tp: OffsetAndMetadata(5, "last") for tp in tps}

    async def commit():
        await member.consumer.commit(last)

    member.listener.before_revoke = commit
    other = await bench.member(member.metadata.group_id, [tps[0].topic], bench.listener("other", []))

    async def shared():
        for one in (member, other):
            await one.consumer.poll((), max_records=1, timeout_ms=10)
        return len(member.listener.owned) == len(other.listener.owned) == 1

    await bench.eventually(shared, "one partition each")
    assert await other.consumer.committed(tps) == last


async def test_old_generation_is_refused_when_the_group_has_moved_on(bench):
    if bench.transport.max_workers == 1:
        pytest.skip("one worker at a time")
    member, [tp] = await bench.owning_member()
    old = member.metadata
    other = await bench.member(old.group_id, [tp.topic], bench.listener("other", []))

    async def moved_on():
        for one in (member, other):
            await one.consumer.poll((), max_records=1, timeout_ms=10)
        return member.metadata.generation > old.generation and other.listener.group is not None

    await bench.eventually(moved_on, "a new generation")
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, [None], [b"zombie"], [1])
    with pytest.raises(CommitError):
        await producer.send_offsets({tp: OffsetAndMetadata(1)}, old)
    await producer.abort()
    assert await bench.admin.group_offsets(old.group_id) == {}


@pytest.mark.parametrize("change", [{"generation": 0}, {"member_id": "nobody"}, {"generation": -1, "member_id": ""}])
async def test_offsets_and_records_are_refused_when_sent_under_a_wrong_membership(bench, change):
    member, [tp] = await bench.owning_member()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, [None], [b"zombie"], [1])
    with pytest.raises(CommitError):
        await producer.send_offsets({tp: OffsetAndMetadata(1)}, dataclasses.replace(member.metadata, **change))
    await producer.abort()
    heir = await bench.producer(bench.name("tx"))
    await heir.begin()
    heir.append(tp, [None], [b"heir"], [1])
    await heir.commit()
    assert await bench.values(tp, 1) == [b"heir"]
    assert await member.consumer.committed([tp]) == {tp: None}


async def test_offsets_become_visible_with_the_records_when_the_transaction_commits(bench):
    member, [tp] = await bench.owning_member()
    output = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(output, [b"k"], [b"v"], [1])
    await producer.send_offsets({tp: OffsetAndMetadata(3, "meta")}, member.metadata)
    assert await bench.admin.group_offsets(member.metadata.group_id) == {}
    await producer.commit()
    assert await bench.values(output, 1) == [b"v"]
    assert await member.consumer.committed([tp]) == {tp: OffsetAndMetadata(3, "meta")}


async def test_nothing_more_is_written_when_the_transaction_has_its_offsets(bench):
    member, [tp] = await bench.owning_member()
    output = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    for value in (b"first", b"second"):
        await producer.begin()
        producer.append(output, [None], [value], [1])
        await producer.send_offsets({tp: OffsetAndMetadata(1)}, member.metadata)
        with pytest.raises(TransportError, match="after send_offsets"):
            producer.append(output, [None], [b"late"], [1])
        await producer.commit()
    assert await bench.values(output, 2) == [b"first", b"second"]


async def test_offsets_stay_old_when_the_transaction_aborts(bench):
    member, [tp] = await bench.owning_member()
    await member.consumer.commit({tp: OffsetAndMetadata(1)})
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    await producer.send_offsets({tp: OffsetAndMetadata(9)}, member.metadata)
    await producer.abort()
    assert await member.consumer.committed([tp]) == {tp: OffsetAndMetadata(1)}


async def test_committed_waits_when_a_transaction_is_pending_on_the_offsets(bench):
    member, [tp] = await bench.owning_member()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    await producer.send_offsets({tp: OffsetAndMetadata(4)}, member.metadata)
    asking = asyncio.create_task(member.consumer.committed([tp]))
    await asyncio.sleep(0.2)
    assert not asking.done()
    await producer.commit()
    assert await asyncio.wait_for(asking, 10) == {tp: OffsetAndMetadata(4)}


async def test_a_member_is_given_other_topics_when_it_subscribes_to_them(bench):
    member, [first] = await bench.owning_member()
    new = TopicPartition(await bench.topic(2), 1)
    member.consumer.subscribe(frozenset({first.topic, new.topic}))
    await member.wait_owned([first, TopicPartition(new.topic, 0), new])
    await bench.write(new, bench.numbered(2))
    member.consumer.seek(new, 0)
    assert (await bench.read(member.consumer, new, 2)).values == bench.numbered(2)
    member.consumer.subscribe(frozenset({new.topic}))
    await member.wait_owned([TopicPartition(new.topic, 0), new])


async def test_the_group_decides_again_when_a_member_asks_for_it(bench):
    member, tps = await bench.owning_member(partitions=2)
    before = member.metadata
    heard = len(member.listener.log)
    member.consumer.rejoin()

    async def again():
        await member.consumer.poll((), max_records=1, timeout_ms=10)
        return len(member.listener.log) >= heard + 2

    await bench.eventually(again, "another decision")
    every = frozenset(tps)
    assert member.listener.log[heard:] == [("member", "revoked", every), ("member", "assigned", every)]
    assert member.metadata.generation > before.generation
    assert member.metadata.member_id == before.member_id
