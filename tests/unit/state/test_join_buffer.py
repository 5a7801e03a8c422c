"""The buffer of a join with grace: what goes when, in which order, and what survives."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.state.base import Engine
from streamlib.state.join_buffer import JoinBuffer
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine


@pytest.fixture
def buffer(engine: Engine, changelog: Any) -> JoinBuffer:
    return JoinBuffer("b", engine, changelog)


def exchange(buffer: JoinBuffer, *records: tuple[bytes, int], grace_ms: int = 10) -> list[bytes]:
    """Put records whose rows are ``key time``; the rows that go."""
    rows = [b"%s %d" % record for record in records]
    gone = buffer.exchange(
        [key for key, _ in records], [time for _, time in records], rows, grace_ms=grace_ms, now_ms=99
    )
    return [rows[each] if isinstance(each, int) else each[1] for each in gone]


def commit(buffer: JoinBuffer, engine: Engine) -> None:
    engine.write(buffer.pending(), {})
    buffer.applied()


@pytest.mark.parametrize("committed", [False, True])
def test_records_go_in_the_order_of_time_when_stream_time_has_left_them_behind(
    buffer: JoinBuffer, engine: Engine, committed: bool
) -> None:
    assert exchange(buffer, (b"k", 5), (b"k", 12), (b"k", 4)) == []
    if committed:
        commit(buffer, engine)
    assert exchange(buffer, (b"q", 16)) == [b"k 4", b"k 5"]
    assert exchange(buffer, (b"a", 26), (b"b", 16), (b"c", 100)) == [b"k 12", b"q 16", b"b 16", b"a 26"]
    assert exchange(buffer, (b"z", 111)) == [b"c 100"]


def test_a_late_record_goes_at_once_and_takes_nobody_along(buffer: JoinBuffer) -> None:
    assert exchange(buffer, (b"k", 20), (b"k", 9), (b"k", 10)) == [b"k 9", b"k 10"]
    assert exchange(buffer, (b"k", 9)) == [b"k 9"]


def test_records_of_one_time_go_in_the_order_of_keys_and_then_of_arrival(buffer: JoinBuffer) -> None:
    exchange(buffer, (b"b", 1), (b"a", 1))
    gone = buffer.exchange([b"a", b"q"], [1, 50], [b"a again", b"last"], grace_ms=10, now_ms=0)
    assert [each if isinstance(each, int) else each[1] for each in gone] == [b"a 1", 0, b"b 1"]


def test_nothing_waits_when_there_is_no_grace(buffer: JoinBuffer) -> None:
    assert exchange(buffer, (b"k", 5), (b"k", 7), (b"k", 6), grace_ms=0) == [b"k 5", b"k 7", b"k 6"]
    assert buffer.pending_rows == 0


# As Kafka Streams writes it: 0, time, key, sequence; a tombstone when a row goes.
def test_the_changelog_has_each_record_and_its_departure(buffer: JoinBuffer, changelog: Any) -> None:
    exchange(buffer, (b"k", 5), (b"k", 4))
    exchange(buffer, (b"q", 15), (b"q", 2))
    assert [(key.hex(), row) for key, row in zip(changelog.keys, changelog.values, strict=True)] == [
        ("0000000000000000056b00000001", b"k 5"),
        ("0000000000000000046b00000002", b"k 4"),
        ("00000000000000000f7100000003", b"q 15"),
        ("0000000000000000046b00000002", None),
        ("0000000000000000056b00000001", None),
    ]
    assert set(changelog.timestamps) == {99}


def test_what_waits_is_there_when_the_buffer_is_restored(buffer: JoinBuffer, changelog: Any) -> None:
    exchange(buffer, (b"k", 5), (b"k", 12), (b"q", 16))
    engine = MemoryEngine()
    restored = JoinBuffer("b", engine)
    restored.restore(changelog.keys, changelog.values, changelog.timestamps)
    commit(restored, engine)
    restored.load()
    assert restored.stream_time == 16
    assert exchange(restored, (b"late", 5)) == [b"late 5"]
    assert exchange(restored, (b"k", 12), (b"z", 40)) == [b"k 12", b"k 12", b"q 16"]


def test_uncommitted_changes_are_forgotten_when_work_is_discarded(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    buffer = JoinBuffer("b", engine)
    exchange(buffer, (b"k", 5))
    commit(buffer, engine)
    assert exchange(buffer, (b"q", 30)) == [b"k 5"]
    buffer.discard()
    buffer.load()
    assert (buffer.stream_time, buffer.pending_rows) == (5, 0)
    assert exchange(buffer, (b"z", 40)) == [b"k 5"]


records = st.lists(st.tuples(st.sampled_from([b"", b"a", b"ab"]), st.integers(0, 40)), max_size=12)


@given(batches=st.lists(records, max_size=4), grace_ms=st.integers(0, 15), committing=st.booleans())
def test_batches_give_what_single_records_give(
    batches: list[list[tuple[bytes, int]]], grace_ms: int, committing: bool
) -> None:
    engine = MemoryEngine()
    one, other = JoinBuffer("b", engine), JoinBuffer("b", MemoryEngine())
    waiting: list[tuple[int, bytes, int]] = []
    stream_time, number = -1, 0
    for batch in batches:
        expected = []
        for key, time in batch:
            number += 1
            if time < stream_time - grace_ms:
                expected.append(b"%s %d" % (key, time))
                continue
            stream_time = max(stream_time, time)
            waiting.append((time, key, number))
            due = sorted(each for each in waiting if each[0] <= stream_time - grace_ms)
            waiting = [each for each in waiting if each not in due]
            expected += [b"%s %d" % (key, time) for time, key, _ in due]
        assert exchange(one, *batch, grace_ms=grace_ms) == expected
        assert [row for record in batch for row in exchange(other, record, grace_ms=grace_ms)] == expected
        if committing:
            commit(one, engine)
            one.discard()
            one.load()
            one.stream_time = stream_time
