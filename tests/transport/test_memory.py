"""Groups and transactions of the memory broker under a clock the test moves: who dies, who waits, who is refused."""

import asyncio

import pytest

from streamlib.errors import CommitError, DeliveryError
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata, TopicSpec
from streamlib.transport.memory import MemoryBroker, MemoryTransport

TP = TopicPartition("t", 0)
BOTH = {TP, TopicPartition("t", 1)}


@pytest.fixture
def clock(new_clock):
    return new_clock()


@pytest.fixture
async def broker(clock):
    made = MemoryBroker(clock)
    admin = await MemoryTransport(made, clock).admin()
    await admin.create_topics([TopicSpec("t", 2)])
    return made


async def joined(new_member, clock, transport, name, **options):
    """A member of the test's group on a transport of its own, started."""
    member = new_member(transport, "g", ["t"], name, **options)
    await member.consumer.start()
    await clock.advance(0.5)
    return member


async def test_survivor_gets_the_partitions_when_the_other_worker_is_killed(new_member, clock, broker):
    first = MemoryTransport(broker, clock)
    killed = await joined(new_member, clock, first, "killed")
    survivor = await joined(new_member, clock, MemoryTransport(broker, clock), "survivor")
    assert len(killed.listener.owned) == len(survivor.listener.owned) == 1
    await first.kill()
    await clock.advance(5)
    assert len(survivor.listener.owned) == 1
    await clock.advance(2)
    assert survivor.listener.owned == BOTH
    await survivor.consumer.close()


async def test_zombie_is_refused_and_rejoins_when_its_time_stood_still(new_member, clock, broker, new_clock):
    own_time = new_clock()
    zombie = await joined(new_member, own_time, MemoryTransport(broker, own_time), "zombie")
    assert zombie.listener.owned == BOTH
    own_time.frozen = True
    await clock.advance(7)
    heir = await joined(new_member, clock, MemoryTransport(broker, clock), "heir")
    with pytest.raises(CommitError, match="rejoin"):
        await zombie.consumer.commit({TP: OffsetAndMetadata(1)})
    await own_time.advance(1)
    await clock.advance(1)
    await own_time.advance(1)
    assert [entry[:2] for entry in zombie.listener.log] == [
        ("zombie", "assigned"),
        ("zombie", "revoked"),
        ("zombie", "assigned"),
    ]
    assert zombie.listener.owned | heir.listener.owned == BOTH
    assert not zombie.listener.owned & heir.listener.owned
    await zombie.consumer.close()
    await heir.consumer.close()


async def test_member_that_never_polls_loses_its_partitions_when_the_poll_interval_is_over(new_member, clock, broker):
    stuck = await joined(new_member, clock, MemoryTransport(broker, clock), "stuck", max_poll_interval_ms=20_000)
    other = await joined(new_member, clock, MemoryTransport(broker, clock), "other", max_poll_interval_ms=20_000)
    for _ in range(3):
        await other.consumer.poll((), max_records=1, timeout_ms=0)
        await clock.advance(9)
    assert other.listener.owned == BOTH
    await stuck.consumer.poll((), max_records=1, timeout_ms=0)
    await clock.advance(1)
    assert len(stuck.listener.owned) == len(other.listener.owned) == 1
    for one in (stuck, other):
        await one.consumer.close()


async def test_group_goes_on_without_a_member_when_its_last_commit_never_ends(new_member, clock, broker):
    stuck = await joined(new_member, clock, MemoryTransport(broker, clock), "stuck")

    async def never():
        await clock.sleep(1_000_000)

    stuck.listener.before_revoke = never
    other = await joined(new_member, clock, MemoryTransport(broker, clock), "other")
    assert other.listener.owned == frozenset()
    await clock.advance(11)
    assert other.listener.owned == BOTH
    for one in (stuck, other):
        await one.consumer.close()


async def test_rebalances_are_the_same_when_run_again(new_member, clock, new_clock):
    async def run():
        own = new_clock()
        broker = MemoryBroker(own)
        admin = await MemoryTransport(broker, own).admin()
        await admin.create_topics([TopicSpec("t", 4)])
        log, members = [], []
        for name in ("a", "b", "c"):
            member = new_member(MemoryTransport(broker, own), "g", ["t"], name)
            member.listener.log = log
            members.append(member)
            await member.consumer.start()
            await own.advance(0.15)
        await own.advance(1)
        await members[0].consumer.close()
        await own.advance(1)
        seen = [(entry, member.listener.group) for member in members for entry in log]
        for member in members[1:]:
            await member.consumer.close()
        return seen

    first = await run()
    assert {entry[0][1] for entry in first} == {"assigned", "revoked"}
    assert await run() == first


async def test_waiting_poll_returns_without_time_passing_when_a_record_is_written(clock, broker):
    transport = MemoryTransport(broker, clock)
    reader = transport.consumer()
    reader.assign({TP: 0})
    polling = asyncio.ensure_future(reader.poll([TP], max_records=1, timeout_ms=60_000))
    await clock.advance(0)
    assert not polling.done()
    producer = transport.producer()
    producer.append(TP, [b"k"], [b"v"], [1])
    await producer.flush()
    assert (await polling)[TP].values == [b"v"]
    await producer.close()


async def test_commit_is_refused_when_the_transaction_took_too_long(new_member, clock, broker):
    transport = MemoryTransport(broker, clock)
    slow = transport.producer("tx")
    await slow.start()
    await slow.begin()
    slow.append(TP, [b"k"], [b"slow"], [1])
    await slow.flush()
    reader = transport.consumer()
    reader.assign({TP: 0})
    await clock.advance(9)
    await reader.poll([TP], max_records=1, timeout_ms=0)
    assert reader.position(TP) == 0
    await clock.advance(2)
    await reader.poll([TP], max_records=1, timeout_ms=0)
    await reader.poll([TP], max_records=1, timeout_ms=0)
    assert reader.position(TP) == 2
    with pytest.raises(DeliveryError, match="took too long"):
        await slow.commit()
    await slow.kill()


async def test_committed_offsets_stay_old_when_a_killed_workers_transaction_times_out(new_member, clock, broker):
    first = MemoryTransport(broker, clock)
    killed = await joined(new_member, clock, first, "killed")
    producer = first.producer("tx")
    await producer.start()
    await producer.begin()
    await producer.send_offsets({TP: OffsetAndMetadata(5)}, killed.metadata)
    await first.kill()
    heir = await joined(new_member, clock, MemoryTransport(broker, clock), "heir")
    asked = []

    async def ask():
        asked.append(await heir.consumer.committed([TP]))

    asking = asyncio.ensure_future(ask())
    await clock.advance(8)
    assert asked == []
    await clock.advance(3)
    await asking
    assert asked == [{TP: None}]
    await heir.consumer.close()
