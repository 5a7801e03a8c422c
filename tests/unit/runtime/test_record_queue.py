"""What a task gets out of one partition: decoded runs, in offset order, cut by time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import DeserializationError, ProcessingError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.record_queue import RecordQueue
from streamlib.serdes.base import Serde
from streamlib.topology.nodes import Source

TEXT = Serde("text", str.encode, bytes.decode)
TP = TopicPartition("in", 3)


class Errors:
    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.seen: list[tuple[str, int, bytes]] = []

    def undecodable(self, error: Exception, part: str, node: str, tp: TopicPartition, batch: Any, row: int) -> None:
        data = batch.keys[row] if part.startswith("key") else batch.values[row]
        self.seen.append((part, batch.offsets[row], data))
        if not self.skip:
            raise DeserializationError(f"{tp} {batch.offsets[row]}") from error


def queue(*, extractor=None, skip: bool = False, decode: bool = True) -> RecordQueue:
    source = Source(name="s", topics=("in",), key_serde=TEXT, value_serde=TEXT, timestamp_extractor=extractor)
    made = RecordQueue(TP, source, decode, Errors(skip=skip))
    made.start(0, -1)
    return made


def fetched(values: list[bytes | None], timestamps: list[int], first: int = 0, headers=None) -> FetchedBatch:
    offsets = list(range(first, first + len(values)))
    return FetchedBatch([b"k"] * len(values), values, timestamps, offsets, headers, first + len(values))


def test_a_whole_batch_comes_out_when_no_other_input_limits_it() -> None:
    q = queue()
    q.add(fetched([b"a", None], [5, 3]))
    run = q.take(None, 100)
    assert (run.keys, run.values, run.timestamps, run.offsets) == (["k", "k"], ["a", None], [5, 3], [0, 1])
    assert (q.next_offset, q.partition_time, q.buffered, q.head_time()) == (2, 5, 0, None)


def test_a_run_ends_before_the_first_record_above_the_limit() -> None:
    q = queue()
    q.add(fetched([b"a", b"b", b"c", b"d"], [1, 4, 9, 2]))
    assert q.take(5, 100).timestamps == [1, 4]
    assert (q.head_time(), q.next_offset, q.buffered) == (9, 2, 2)
    assert q.take(5, 100).timestamps == [9, 2]  # the first row always comes


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=5), st.integers(1, 4), st.integers(0, 60))
def test_all_records_come_out_once_in_order_whatever_the_cuts(batches, rows, limit) -> None:
    q, first = queue(), 0
    for timestamps in batches:
        q.add(fetched([b"v"] * len(timestamps), timestamps, first))
        first += len(timestamps)
    offsets: list[int] = []
    while q.head_time() is not None:
        run = q.take(limit, rows)
        assert 1 <= len(run) <= rows
        offsets += run.offsets or []
        assert q.next_offset == offsets[-1] + 1
    assert offsets == list(range(first))
    assert q.buffered == 0


def test_no_more_is_decoded_at_a_time_than_may_be_taken() -> None:
    decoded: list[bytes] = []

    def decode(value: bytes) -> str:
        decoded.append(value)
        return value.decode()

    q = RecordQueue(
        TP,
        Source(name="s", topics=("in",), key_serde=TEXT, value_serde=Serde("slow", str.encode, decode)),
        True,
        Errors(skip=False),
    )
    q.start(0, -1)
    batch = fetched([b"a", b"b", b"c"], [1, 2, 3], headers=[[("h", b"1")], [], [("h", b"3")]])
    batch.next_offset = 9
    q.add(batch)
    assert (q.head_time(2), decoded, q.buffered) == (1, [b"a", b"b"], 3)
    run = q.take(None, 2)
    assert (run.values, run.headers, q.next_offset, q.buffered) == (["a", "b"], [[("h", b"1")], []], 2, 1)
    assert (q.take(None, 2).values, q.next_offset, q.buffered) == (["c"], 9, 0)


def test_the_position_steps_over_what_the_fetch_stepped_over() -> None:
    q = queue()
    batch = fetched([b"a"], [1])
    batch.next_offset = 17
    q.add(batch)
    q.take(None, 10)
    assert q.next_offset == q.fetch_offset == 17


def test_an_undecodable_value_is_reported_with_its_offset_and_bytes() -> None:
    q = queue()
    q.add(fetched([b"good", b"\xff\xfe"], [1, 2], first=40))
    with pytest.raises(DeserializationError, match="41"):
        q.head_time()


def test_an_undecodable_value_is_left_out_when_the_policy_is_to_skip() -> None:
    q = queue(skip=True)
    q.add(fetched([b"a", b"\xff", b"c"], [1, 2, 3], headers=[[("h", b"1")], [], [("h", b"3")]]))
    run = q.take(None, 10)
    assert (run.values, run.offsets, run.headers) == (["a", "c"], [0, 2], [[("h", b"1")], [("h", b"3")]])
    assert (q.next_offset, q.buffered) == (3, 0)


def test_the_position_moves_when_every_record_is_skipped() -> None:
    q = queue(skip=True)
    q.add(fetched([b"\xff"], [1]))
    assert q.head_time() is None
    assert (q.next_offset, q.buffered) == (1, 0)


def test_values_stay_raw_when_nobody_reads_them() -> None:
    q = queue(decode=False)
    q.add(fetched([b"\xff"], [1]))
    assert q.take(None, 10).values == [b"\xff"]


def test_the_extractor_sees_the_highest_time_so_far() -> None:
    seen: list[int] = []

    def extract(key, value, timestamp, highest):
        seen.append(highest)
        return timestamp * 10

    q = queue(extractor=extract)
    q.add(fetched([b"a", b"b", b"c"], [2, 1, 3]))
    assert q.take(None, 10).timestamps == [20, 10, 30]
    assert seen == [-1, 20, 20]


def test_a_negative_extracted_time_drops_the_record_and_is_counted() -> None:
    q = queue(extractor=lambda key, value, timestamp, highest: -1 if value == "b" else timestamp)
    q.add(fetched([b"a", b"b", b"c"], [1, 2, 3]))
    assert q.take(None, 10).values == ["a", "c"]
    assert (q.take_negative_count(), q.take_negative_count(), q.next_offset) == (1, 0, 3)


def test_a_negative_record_timestamp_is_an_error_with_its_place() -> None:
    q = queue()
    q.add(fetched([b"a", b"b"], [1, -1], first=7))
    with pytest.raises(ProcessingError, match=r"negative timestamp -1.*topic=in partition=3 offset=8"):
        q.head_time()


def test_an_extractor_that_raises_is_named_with_the_record() -> None:
    q = queue(extractor=lambda key, value, timestamp, highest: 1 // 0)
    q.add(fetched([b"a"], [1], first=5))
    with pytest.raises(ProcessingError, match=r"ZeroDivisionError.*node=s topic=in partition=3 offset=5"):
        q.head_time()


def test_a_record_can_be_had_as_it_was_read_until_it_is_processed_for_good() -> None:
    q = queue()
    for first in (0, 3, 6):
        q.add(fetched([b"a", b"b", b"c"], [1, 2, 3], first, [[("h", b"1")]] * 3))
    q.take(None, 100)
    assert q.head_time() == 1  # the next batch is decoded before the first one is processed
    assert q.raw(1) == (b"k", b"b", 2, [("h", b"1")])
    assert q.raw(4) == (b"k", b"b", 2, [("h", b"1")])
    assert q.raw(7) is None
    q.take(None, 100)
    assert q.head_time() == 1
    assert (q.raw(1), q.raw(7)) == (None, (b"k", b"b", 2, [("h", b"1")]))
    q.take(None, 2)
    q.forget_raw()
    assert (q.raw(4), q.raw(8)) == (None, (b"k", b"c", 3, [("h", b"1")]))


def test_records_of_calls_that_go_on_are_kept() -> None:
    q = queue()
    q.needed_from = lambda: 1
    for first in range(0, 12, 3):
        q.add(fetched([b"a", b"b", b"c"], [1, 2, 3], first))
        q.take(None, 100)
    q.forget_raw()
    assert [q.raw(offset) is not None for offset in (0, 1, 5, 11)] == [True] * 4
    q.needed_from = lambda: 12
    q.forget_raw()
    assert [q.raw(offset) for offset in (0, 1, 5, 11)] == [None] * 4


def test_a_gap_between_offsets_holds_no_record() -> None:
    q = queue()
    q.add(FetchedBatch([b"k", b"k"], [b"a", b"b"], [1, 1], [3, 7], None, 9))
    q.take(None, 2)
    assert (q.raw(3), q.raw(5), q.raw(7)) == ((b"k", b"a", 1, ()), None, (b"k", b"b", 1, ()))
