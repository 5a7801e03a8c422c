"""Batches and windowed keys."""

import pytest

from streamlib.record import ChangeBatch, FetchedBatch, RecordBatch, TopicPartition, Windowed


def test_a_batch_is_as_long_as_its_columns() -> None:
    batch = RecordBatch(["a", None], [1, None], [10, 20])
    assert len(batch) == 2
    assert (batch.offsets, batch.headers) == (None, None)


def test_a_batch_prints_its_size_and_not_its_records() -> None:
    assert repr(RecordBatch(["secret"], ["secret"], [0])) == "<RecordBatch of 1 records>"
    assert repr(FetchedBatch([b"k"], [b"v"], [0], [7], None, 9)) == "<FetchedBatch of 1 records>"


def test_a_batch_has_no_room_for_other_attributes() -> None:
    with pytest.raises(AttributeError):
        RecordBatch([], [], []).values_ = []  # type: ignore[attr-defined]


def test_a_fetched_batch_knows_where_to_go_on() -> None:
    batch = FetchedBatch([b"k"], [None], [5], [7], None, next_offset=9)
    assert (batch.offsets, batch.next_offset) == ([7], 9)


def test_a_change_batch_carries_old_values() -> None:
    batch = ChangeBatch(["a"], [None], [5], olds=[1])
    assert (batch.values, batch.olds, batch.latest) == ([None], [1], None)


def test_windowed_keys_are_equal_when_key_and_window_are() -> None:
    key = Windowed("a", 0, 60_000)
    assert key == Windowed("a", 0, 60_000)
    assert hash(key) == hash(Windowed("a", 0, 60_000))
    assert len({key, Windowed("a", 60_000, 120_000), Windowed("b", 0, 60_000)}) == 3


def test_a_windowed_key_prints_as_in_java() -> None:
    assert str(Windowed("a", 0, 60_000)) == "[a@0/60000]"


def test_a_windowed_key_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Windowed("a", 0, 1).start = 5  # type: ignore[misc]


def test_a_topic_partition_is_a_tuple() -> None:
    assert TopicPartition("words", 3) == ("words", 3)
