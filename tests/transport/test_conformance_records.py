"""Records come back as they were written, in order and once, from every broker."""

import re

import pytest

from streamlib.errors import DeliveryError, RecordTooLargeError
from streamlib.record import TopicPartition


async def test_records_keep_their_order_when_several_columns_are_appended(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    for start in range(0, 3_000, 300):
        column = bench.numbered(300, start)
        producer.append(tp, column, column, [1_000] * 300)
        await producer.drain()
    await producer.flush()
    read = await bench.read(await bench.reader({tp: 0}), tp, 3_000)
    assert read.values == read.keys == bench.numbered(3_000)
    assert read.offsets == list(range(3_000))
    assert read.next_offset == 3_000


async def test_each_partition_keeps_its_order_when_appends_alternate(bench):
    topic = await bench.topic(partitions=3)
    tps = [TopicPartition(topic, partition) for partition in range(3)]
    producer = await bench.producer()
    for number in range(60):
        producer.append(tps[number % 3], [None], [b"%d" % number], [1_000])
    await producer.flush()
    for partition, tp in enumerate(tps):
        assert await bench.values(tp, 20) == [b"%d" % number for number in range(partition, 60, 3)]


async def test_headers_keep_order_and_repeats_when_some_records_have_them(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    headers = [[("trace", b"1"), ("trace", b"2"), ("none", None), ("empty", b"")], [], [("é", b"\x00\xff")]]
    producer.append(tp, [b"a", b"b", b"c"], [b"1", b"2", b"3"], [1, 2, 3], headers)
    producer.append(tp, [b"d"], [b"4"], [4])
    await producer.flush()
    read = await bench.read(await bench.reader({tp: 0}), tp, 4)
    assert [list(row) for row in read.headers] == [*headers, []]


async def test_headers_column_is_none_when_no_record_has_any(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(3))
    reader = await bench.reader({tp: 0})
    polled = {}

    async def came():
        polled.update(await reader.poll([tp], max_records=10, timeout_ms=200))
        return bool(polled)

    await bench.eventually(came, "records")
    assert polled[tp].headers is None


async def test_null_and_empty_stay_apart_when_keys_and_values_are_mixed(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    keys, values = [None, b"", b"k", b"k"], [b"no key", b"empty key", None, b""]
    producer.append(tp, keys, values, [1, 1, 1, 1])
    await producer.flush()
    read = await bench.read(await bench.reader({tp: 0}), tp, 4)
    assert (read.keys, read.values) == (keys, values)


async def test_timestamps_come_back_when_they_are_out_of_order(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    timestamps = [1_700_000_000_000, 0, 4_102_444_800_000, 5]
    producer.append(tp, bench.numbered(4), bench.numbered(4), timestamps)
    await producer.flush()
    assert (await bench.read(await bench.reader({tp: 0}), tp, 4)).timestamps == timestamps


async def test_flush_tells_end_offsets_when_records_were_appended_since_the_last(bench):
    topic = await bench.topic(partitions=2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    producer = await bench.producer()
    producer.append(first, bench.numbered(3), bench.numbered(3), [1, 1, 1])
    producer.append(second, bench.numbered(2), bench.numbered(2), [1, 1])
    assert await producer.flush() == {first: 3, second: 2}
    producer.append(second, bench.numbered(1), bench.numbered(1), [1])
    assert await producer.flush() == {second: 3}
    assert await producer.flush() == {}


async def test_nothing_is_written_when_an_empty_column_is_appended(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    producer.append(tp, [], [], [])
    assert await producer.flush() == {}
    assert await bench.admin.end_offsets([tp]) == {tp: 0}


async def test_records_arrive_when_nobody_flushes(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    producer.append(tp, bench.numbered(5), bench.numbered(5), [1] * 5)
    assert await bench.values(tp, 5) == bench.numbered(5)


async def test_records_are_delivered_when_the_producer_closes(bench):
    tp = await bench.partition()
    producer = bench.transport.producer()
    await producer.start()
    producer.append(tp, bench.numbered(5), bench.numbered(5), [1] * 5)
    await producer.close()
    assert await bench.admin.end_offsets([tp]) == {tp: 5}


async def test_a_record_of_one_megabyte_comes_back_when_among_small_ones(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    values = [b"before", b"x" * 1_000_000, b"after"]
    producer.append(tp, [b"k"] * 3, values, [1, 1, 1])
    await producer.flush()
    assert await bench.values(tp, 3) == values


async def test_delivery_is_refused_with_size_and_limit_when_a_record_is_too_large(bench):
    tp = await bench.partition()
    producer = await bench.producer()

    async def deliver():
        producer.append(tp, [b"k"], [b"x" * 5_000_000], [1])
        await producer.flush()

    with pytest.raises(DeliveryError) as refused:
        await deliver()
    assert [number for number in re.findall(r"\d+", str(refused.value)) if int(number) >= 5_000_000]
    assert await bench.admin.end_offsets([tp]) == {tp: 0}


async def test_the_producer_goes_on_without_a_record_that_is_too_large(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    values = [b"before", b"x" * 5_000_000, b"after"]
    with pytest.raises(RecordTooLargeError, match=r"\b5\d{6}\b") as refused:
        producer.append(tp, [b"k"] * 3, values, [1, 1, 1])
    assert refused.value.row == 1
    producer.append(tp, [b"k"], values[2:], [1])
    await producer.flush()
    assert await bench.values(tp, 2) == [b"before", b"after"]
