"""Polling returns what is wanted, in bounds, and positions go where they are sent, on every broker."""

import asyncio

import pytest

from streamlib.errors import OffsetOutOfRangeError
from streamlib.record import TopicPartition


async def test_poll_returns_only_wanted_partitions_and_loses_none_when_wants_change(bench):
    topic = await bench.topic(partitions=2)
    left, right = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await bench.write(left, bench.numbered(100))
    await bench.write(right, bench.numbered(100, 100))
    reader = await bench.reader({left: 0, right: 0})
    both = {left: [], right: []}

    async def read_both():
        for tp, batch in (await reader.poll([left, right], max_records=10, timeout_ms=100)).items():
            both[tp] += batch.values
        return bool(both[left] or both[right])

    await bench.eventually(read_both, "first records")
    rest = await bench.read(reader, left, 100 - len(both[left]))
    assert both[left] + rest.values == bench.numbered(100)
    assert reader.position(right) == len(both[right])
    rest = await bench.read(reader, right, 100 - len(both[right]))
    assert both[right] + rest.values == bench.numbered(100, 100)


async def test_poll_never_exceeds_max_records_when_more_is_there(bench):
    topic = await bench.topic(partitions=2)
    tps = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    for tp in tps:
        await bench.write(tp, bench.numbered(50))
    reader = await bench.reader(dict.fromkeys(tps, 0))
    seen = {tp: [] for tp in tps}

    async def all_read():
        polled = await reader.poll(tps, max_records=7, timeout_ms=100)
        assert sum(map(len, polled.values())) <= 7
        for tp, batch in polled.items():
            seen[tp] += batch.values
        assert [reader.position(tp) for tp in tps] == [len(seen[tp]) for tp in tps]
        return all(len(values) == 50 for values in seen.values())

    await bench.eventually(all_read, "100 records")
    assert list(seen.values()) == [bench.numbered(50), bench.numbered(50)]


async def test_every_partition_gets_its_turn_when_one_always_has_more(bench):
    topic = await bench.topic(partitions=2)
    busy, calm = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await bench.write(busy, bench.numbered(500))
    await bench.write(calm, bench.numbered(1))
    reader = await bench.reader({busy: 0, calm: 0})
    seen = []

    async def calm_read():
        polled = await reader.poll([busy, calm], max_records=5, timeout_ms=100)
        seen.extend(tp for tp, batch in polled.items() if len(batch))
        return calm in seen

    await bench.eventually(calm_read, "the calm partition's record")
    assert seen.count(busy) < 100


async def test_poll_only_waits_when_nothing_is_wanted(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(3))
    reader = await bench.reader({tp: 0})
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await reader.poll([], max_records=10, timeout_ms=100) == {}
    assert 0.08 <= loop.time() - before < 5
    assert reader.position(tp) == 0


async def test_poll_returns_nothing_after_its_timeout_when_the_partition_is_empty(bench):
    tp = await bench.partition()
    reader = await bench.reader({tp: 0})
    await bench.nothing_more(reader, tp)
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await reader.poll([tp], max_records=10, timeout_ms=100) == {}
    assert 0.08 <= loop.time() - before < 5


async def test_a_waiting_poll_returns_early_when_a_record_arrives(bench):
    tp = await bench.partition()
    reader = await bench.reader({tp: 0})
    await bench.nothing_more(reader, tp)
    polling = asyncio.create_task(reader.poll([tp], max_records=10, timeout_ms=15_000))
    await asyncio.sleep(0.05)
    await bench.write(tp, [b"late"])
    polled = await asyncio.wait_for(polling, 10)
    assert polled[tp].values == [b"late"]


async def test_reading_goes_on_elsewhere_when_seeking_back_and_forth(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(100))
    reader = await bench.reader({tp: 0})
    assert (await bench.read(reader, tp, 10)).values == bench.numbered(10)
    assert reader.position(tp) == 10
    reader.seek(tp, 3)
    assert reader.position(tp) == 3
    assert (await bench.read(reader, tp, 2)).values == bench.numbered(2, 3)
    reader.seek(tp, 95)
    assert (await bench.read(reader, tp, 5)).offsets == [95, 96, 97, 98, 99]


async def test_reading_stays_exact_when_seeking_while_a_poll_waits(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(20))
    reader = await bench.reader({tp: 20})
    polling = asyncio.create_task(reader.poll([tp], max_records=100, timeout_ms=300))
    await asyncio.sleep(0.03)
    reader.seek(tp, 5)
    early = (await polling).get(tp)
    values = [] if early is None else early.values
    values += (await bench.read(reader, tp, 15 - len(values))).values if len(values) < 15 else []
    assert values == bench.numbered(15, 5)


async def test_seek_is_ignored_and_position_unknown_when_the_partition_is_not_assigned(bench):
    topic = await bench.topic(partitions=2)
    mine, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await bench.write(other, bench.numbered(3))
    reader = await bench.reader({mine: 0})
    reader.seek(other, 0)
    assert reader.position(other) is None
    assert await reader.poll([mine, other], max_records=10, timeout_ms=150) == {}


async def test_only_the_new_partitions_are_read_when_assigned_again(bench):
    topic = await bench.topic(partitions=2)
    old, new = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await bench.write(old, bench.numbered(5))
    await bench.write(new, bench.numbered(5, 5))
    reader = await bench.reader({old: 0})
    await bench.read(reader, old, 2)
    reader.assign({new: 1})
    assert (await bench.read(reader, new, 4)).values == bench.numbered(4, 6)
    assert reader.position(old) is None


async def test_poll_refuses_when_the_position_is_beyond_the_end(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(3))
    reader = await bench.reader({tp: 50})
    with pytest.raises(OffsetOutOfRangeError, match=tp.topic):
        await bench.poll_until_refused(reader, tp)


async def test_poll_refuses_when_the_position_was_deleted(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(10))
    await bench.admin.delete_records({tp: 5})
    reader = await bench.reader({tp: 2})
    with pytest.raises(OffsetOutOfRangeError, match=tp.topic):
        await bench.poll_until_refused(reader, tp)
    reader.seek(tp, 5)
    assert (await bench.read(reader, tp, 5)).values == bench.numbered(5, 5)


async def test_lag_is_what_is_left_when_a_part_is_read(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(10))
    reader = await bench.reader({tp: 0})
    assert reader.lag(tp) is None
    await bench.read(reader, tp, 4)
    assert reader.lag(tp) == 6
    await bench.read(reader, tp, 6)
    assert reader.lag(tp) == 0


async def test_lag_is_unknown_when_the_partition_is_not_assigned(bench):
    tp = await bench.partition()
    reader = await bench.reader({})
    assert reader.lag(tp) is None
