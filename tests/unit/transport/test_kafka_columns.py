"""Columns are read out of record batches exactly, wherever the reading starts and stops."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamlib.transport.kafka.client import Connection, KafkaClient
from streamlib.transport.kafka.columns import BUSY_WAIT_MS, MAX_WAIT_MS, ColumnFetcher, ColumnReader

TP = TopicPartition("topic", 0)
BASE_OFFSET_BYTES = 8


def batch_bytes(base_offset: int, rows: Sequence[tuple[bytes | None, list[Any]]]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1_000_000)
    for number, (value, headers) in enumerate(rows):
        builder.append(number, 1_000 + base_offset + number, b"k", value, headers)
    return base_offset.to_bytes(BASE_OFFSET_BYTES, "big") + bytes(builder.build())[BASE_OFFSET_BYTES:]


def reader(data: bytes, start: int) -> tuple[Any, Any]:
    assignment = Assignment([TP])
    state = assignment.state_value(TP)
    state.seek(start)
    records = PartitionRecords(TP, MemoryRecords(data), [], start, None, None, True, 0)
    result = FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
    result.getall = ColumnReader(result).getall
    return result, state


async def test_headers_column_has_gaps_filled_when_few_records_have_any() -> None:
    data = batch_bytes(0, [(b"a", []), (b"b", [("h", b"1")]), (b"c", [])])
    columns, _ = reader(data, 0)
    batch = columns.getall(10)
    assert batch.headers == [(), (("h", b"1"),), ()]
    columns, _ = reader(batch_bytes(0, [(b"a", []), (b"b", [])]), 0)
    assert columns.getall(10).headers is None


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    start=st.integers(0, 60),
    steps=st.lists(st.integers(1, 12), min_size=1, max_size=10),
)
async def test_every_record_from_the_start_comes_once_when_batches_and_steps_are_arbitrary(
    sizes: list[int], start: int, steps: list[int]
) -> None:
    data, offset, offsets = b"", 0, []
    for size in sizes:
        data += batch_bytes(offset, [(b"%d" % (offset + number), []) for number in range(size)])
        offsets += range(offset, offset + size)
        offset += size + 2  # as compaction leaves gaps between batches
    start = min(start, offset - 3)
    columns, state = reader(data, start)
    seen: list[int] = []
    for step in [*steps, 100, 100]:
        batch = columns.getall(step)
        assert len(batch) <= step
        assert [int(value) for value in batch.values] == batch.offsets
        assert batch.timestamps == [1_000 + number for number in batch.offsets]
        seen += batch.offsets
        if batch.offsets:
            assert state.position == batch.next_offset > batch.offsets[-1]
    assert seen == [number for number in offsets if number >= start]


async def test_corrupt_batch_is_neither_shown_nor_skipped_when_the_one_before_is_good() -> None:
    good, bad = batch_bytes(0, [(b"good", [])] * 3), bytearray(batch_bytes(3, [(b"bad", [])] * 3))
    bad[-2] ^= 0xFF
    columns, state = reader(good + bytes(bad) + batch_bytes(6, [(b"after", [])]), 0)
    assert columns.getall(3).values == [b"good"] * 3
    with pytest.raises(CorruptRecordException):
        columns.getall(10)
    assert state.position == 3
    assert len(columns.getall(10)) == 0
    assert state.position == 3


async def test_nothing_is_shown_when_the_partition_was_sought_or_taken_away() -> None:
    columns, state = reader(batch_bytes(0, [(b"a", [])] * 3), 0)
    columns.getall(1)
    state.seek(0)
    assert len(columns.getall(10)) == 0
    columns, state = reader(batch_bytes(0, [(b"a", [])] * 3), 0)
    state._assignment._unassign()
    assert len(columns.getall(10)) == 0


async def test_broker_answers_sooner_when_wanted_records_lie_ready() -> None:
    """Else a partition read empty waits for the answer to a fetch of its idle neighbours."""
    client = KafkaClient(Connection("127.0.0.1:9", None, "test"))
    subscriptions = SubscriptionState()
    fetcher = ColumnFetcher(client, subscriptions)
    subscriptions.assign_from_user([TP])
    assignment = subscriptions.subscription.assignment
    for wanted, ready, expected in ((True, True, BUSY_WAIT_MS), (True, False, MAX_WAIT_MS), (False, True, MAX_WAIT_MS)):
        records = PartitionRecords(TP, MemoryRecords(b""), [], 0, None, None, True, 0)
        result = FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
        fetcher._records.clear()
        fetcher._records.update({TP: result} if ready else {})
        fetcher._wanted = frozenset({TP} if wanted else ())
        fetcher._get_actions_per_node(assignment)
        assert fetcher._fetch_max_wait_ms == expected
    await fetcher.close()


async def test_reading_fails_when_what_fetches_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker would wait for ever for records that nobody fetches."""
    subscriptions = SubscriptionState()
    fetcher = ColumnFetcher(KafkaClient(Connection("127.0.0.1:9", None, "test")), subscriptions)

    def unexpected(assignment: object) -> None:
        raise KeyError(1)

    monkeypatch.setattr(fetcher, "_get_actions_per_node", unexpected)
    subscriptions.assign_from_user([TP])
    await asyncio.wait([fetcher._fetch_task], timeout=5.0)
    with pytest.raises(KafkaError):
        await fetcher.fetch_columns(frozenset({TP}), 0.01, 10)
    await fetcher.close()


async def test_partition_is_neither_fetched_nor_reset_when_it_has_no_position() -> None:
    client = KafkaClient(Connection("127.0.0.1:9", None, "test"))
    subscriptions = SubscriptionState()
    fetcher = ColumnFetcher(client, subscriptions, auto_offset_reset="none")
    subscriptions.assign_from_user([TP])
    assignment = subscriptions.subscription.assignment
    requests, resets, _, invalid_metadata, _ = fetcher._get_actions_per_node(assignment)
    assert (requests, dict(resets), invalid_metadata) == ([], {}, False)
    fetcher.seek_to(TP, 5)
    assert fetcher._get_actions_per_node(assignment)[3] is True  # wants its leader now
    assert fetcher._get_actions_per_node(assignment)[3] is False  # and does not ask again at once
    await fetcher.close()
