from typing import Any

from streamlib import serdes
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.partition_group import PartitionGroup
from streamlib.runtime.record_queue import RecordQueue
from streamlib.topology.nodes import Source


class NoErrors:
    def undecodable(self, error: Exception, *_: object) -> None:
        raise AssertionError(error)


def group(*topics: str, **options: Any) -> PartitionGroup:
    queues = {}
    for topic in topics:
        source = Source(name=topic, topics=(topic,), key_serde=serdes.BYTES, value_serde=serdes.BYTES, **options)
        tp = TopicPartition(topic, 0)
        queues[tp] = RecordQueue(tp, source, True, NoErrors())
    return PartitionGroup(queues)


def add(inputs: PartitionGroup, topic: str, *times: int) -> None:
    count = len(times)
    none: list[bytes | None] = [None] * count
    inputs.add(TopicPartition(topic, 0), FetchedBatch(none, none, list(times), list(range(count)), None, count))


def taken(inputs: PartitionGroup, max_rows: int = 1) -> list[tuple[str, list[int]]]:
    found = []
    while (took := inputs.take(max_rows)) is not None:
        found.append((took[0].tp.topic, took[1].timestamps))
    return found


def test_topics_come_as_javas_priority_queue_gives_them_when_times_are_equal() -> None:
    times = {"a": 5, "b": 5, "c": 5, "d": 3, "e": 5, "f": 3, "g": 5}
    inputs = group(*times)
    for topic, time in times.items():
        add(inputs, topic, time)
    assert "".join(topic for topic, _ in taken(inputs)) == "dfcebga"


def test_the_input_with_the_lowest_head_is_next_when_records_are_taken_one_by_one() -> None:
    inputs = group("a", "b")
    add(inputs, "a", 1, 9, 2)
    add(inputs, "b", 3, 4)
    assert taken(inputs) == [("a", [1]), ("b", [3]), ("b", [4]), ("a", [9]), ("a", [2])]


def test_a_run_ends_before_a_later_head_when_many_rows_may_be_taken() -> None:
    inputs = group("a", "b")
    add(inputs, "a", 1, 2, 3, 7)
    add(inputs, "b", 4, 8)
    assert taken(inputs, 100) == [("a", [1, 2, 3]), ("b", [4]), ("a", [7]), ("b", [8])]


def test_nothing_is_taken_when_an_input_turns_out_to_be_skipped() -> None:
    inputs = group("a", "b", timestamp_extractor=lambda key, value, timestamp, highest: timestamp)
    add(inputs, "a", 5)
    add(inputs, "b", -1)
    assert inputs.take(10) is None
    assert [queue.take_negative_count() for queue in inputs.queues.values()] == [0, 1]
    assert taken(inputs, 10) == [("a", [5])]


def test_what_waited_is_forgotten_when_the_group_starts_again() -> None:
    inputs = group("a")
    add(inputs, "a", 1, 2)
    assert inputs.take(1) is not None
    inputs.start({TopicPartition("a", 0): (7, 3)})
    assert (inputs.buffered, inputs.take(10)) == (0, None)
    assert inputs.queues[TopicPartition("a", 0)].next_offset == 7
