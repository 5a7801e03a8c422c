"""Transactions are all or nothing, and fence older producers, on every broker."""

import pytest

from streamlib.errors import CommitError, DeliveryError
from streamlib.record import TopicPartition


async def test_open_transaction_shows_only_to_uncommitted_readers_when_flushed(bench):
    tp = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, bench.numbered(3), bench.numbered(3), [1] * 3)
    assert await producer.flush() == {tp: 3}
    assert await bench.values(tp, 3, "read_uncommitted") == bench.numbered(3)
    reader = await bench.reader({tp: 0})
    await bench.nothing_more(reader, tp)
    await producer.commit()
    assert (await bench.read(reader, tp, 3)).values == bench.numbered(3)


async def test_aborted_records_are_never_seen_when_later_ones_are_committed(bench):
    tp = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, bench.numbered(3), bench.numbered(3), [1] * 3)
    await producer.flush()
    await producer.abort()
    await producer.begin()
    producer.append(tp, bench.numbered(3, 3), bench.numbered(3, 3), [1] * 3)
    await producer.commit()
    assert await bench.values(tp, 3) == bench.numbered(3, 3)


async def test_unflushed_records_vanish_when_the_transaction_is_aborted(bench):
    tp = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, bench.numbered(3), bench.numbered(3), [1] * 3)
    await producer.abort()
    await bench.nothing_more(await bench.reader({tp: 0}), tp)


async def test_position_steps_over_markers_when_all_records_are_read(bench):
    tp = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    for end in ("commit", "abort", "commit"):
        await producer.begin()
        producer.append(tp, bench.numbered(2), bench.numbered(2), [1] * 2)
        await producer.flush()
        await getattr(producer, end)()

    async def last_marker_written() -> bool:
        # A coordinator answers EndTxn once its decision is logged; the markers follow on their own (KIP-98).
        return bool(await bench.admin.end_offsets([tp]) == {tp: 9})

    await bench.eventually(last_marker_written, "the end offset to become 9")
    reader = await bench.reader({tp: 0})
    assert (await bench.read(reader, tp, 4)).offsets == [0, 1, 6, 7]
    await bench.wait_position(reader, tp, 9)


async def test_position_reaches_the_end_when_only_aborted_records_follow(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(2))
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, bench.numbered(5), bench.numbered(5), [1] * 5)
    await producer.flush()
    await producer.abort()
    reader = await bench.reader({tp: 0})
    await bench.wait_position(reader, tp, 8)


async def test_later_records_are_held_back_when_an_older_transaction_is_open(bench):
    tp = await bench.partition()
    await bench.write(tp, [b"before"])
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, [None], [b"inside"], [1])
    await producer.flush()
    await bench.write(tp, [b"after"])
    reader = await bench.reader({tp: 0})
    seen = []

    async def before_seen():
        for batch in (await reader.poll([tp], max_records=10, timeout_ms=200)).values():
            seen.extend(batch.values)
        return bool(seen)

    await bench.eventually(before_seen, "the record before the transaction")
    assert seen == [b"before"]
    await bench.nothing_more(reader, tp)
    assert reader.position(tp) == 1
    await producer.commit()
    assert (await bench.read(reader, tp, 2)).values == [b"inside", b"after"]
    reader.seek(tp, 0)
    assert (await bench.read(reader, tp, 3)).values == [b"before", b"inside", b"after"]


async def test_end_offsets_count_open_transactions_when_read_uncommitted(bench):
    tp = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, bench.numbered(3), bench.numbered(3), [1] * 3)
    await producer.flush()
    assert await bench.admin.end_offsets([tp]) == {tp: 3}


async def test_all_partitions_commit_together_when_a_transaction_spans_them(bench):
    topic = await bench.topic(partitions=3)
    tps = [TopicPartition(topic, partition) for partition in range(3)]
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    for tp in tps:
        producer.append(tp, [b"k"], [b"v"], [1])
    await producer.commit()
    for tp in tps:
        assert await bench.values(tp, 1) == [b"v"]


async def test_transactions_follow_each_other_when_some_are_empty(bench):
    tp = await bench.partition()
    producer = await bench.producer(bench.name("tx"))
    for number in range(6):
        await producer.begin()
        if number % 2:
            producer.append(tp, [None], [b"%d" % number], [1])
        await (producer.abort() if number in {2, 3} else producer.commit())
    assert await bench.values(tp, 2) == [b"1", b"5"]


async def test_older_producer_is_fenced_when_another_starts_with_its_transactional_id(bench):
    tp = await bench.partition()
    transactional_id = bench.name("tx")
    old = await bench.producer(transactional_id)
    await old.begin()
    old.append(tp, [None], [b"zombie"], [1])
    await old.flush()
    new = await bench.producer(transactional_id)
    with pytest.raises((DeliveryError, CommitError)):
        await old.commit()
    await new.begin()
    new.append(tp, [None], [b"heir"], [1])
    await new.commit()
    assert await bench.values(tp, 1) == [b"heir"]
    await old.kill()


async def test_orphaned_transaction_is_aborted_when_its_id_starts_again_after_a_kill(bench):
    tp = await bench.partition()
    transactional_id = bench.name("tx")
    old = await bench.producer(transactional_id)
    await old.begin()
    old.append(tp, bench.numbered(2), bench.numbered(2), [1] * 2)
    await old.flush()
    await old.kill()
    await bench.write(tp, [b"later"])
    reader = await bench.reader({tp: 0})
    await bench.nothing_more(reader, tp)
    await bench.producer(transactional_id)
    assert (await bench.read(reader, tp, 1)).values == [b"later"]


async def test_open_transaction_is_aborted_when_its_producer_closes(bench):
    tp = await bench.partition()
    producer = bench.transport.producer(bench.name("tx"))
    await producer.start()
    await producer.begin()
    producer.append(tp, bench.numbered(2), bench.numbered(2), [1] * 2)
    await producer.flush()
    await producer.close()
    await bench.write(tp, [b"later"])
    assert await bench.values(tp, 1) == [b"later"]


async def test_lag_leaves_out_what_may_not_be_read_when_a_transaction_is_open(bench):
    tp = await bench.partition()
    await bench.write(tp, bench.numbered(2))
    producer = await bench.producer(bench.name("tx"))
    await producer.begin()
    producer.append(tp, bench.numbered(3), bench.numbered(3), [1] * 3)
    await producer.flush()
    reader = await bench.reader({tp: 0})
    await bench.read(reader, tp, 2)
    await bench.nothing_more(reader, tp)
    assert reader.lag(tp) == 0
    await producer.commit()
    await bench.read(reader, tp, 1)
    assert reader.lag(tp) >= 2
