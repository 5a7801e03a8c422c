from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib import serdes
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.partition_group import PartitionGroup
from streamlib.runtime.record_queue import RecordQueue
from streamlib.topology.nodes import Source


class NoErrors:
    def undecodable(self, error: Exception, *_: object) -> None:
        raise AssertionError(error)


def group(fetches: dict[str, list[list[int]]]) -> PartitionGroup:
    """Inputs by topic with the times of what they have fetched; offsets begin at 100."""
    queues = {}
    for topic in fetches:
        source = Source(name=topic, topics=(topic,), key_serde=serdes.BYTES, value_serde=serdes.BYTES)
        tp = TopicPartition(topic, 0)
        queues[tp] = RecordQueue(tp, source, True, NoErrors())
        queues[tp].start(100, -1)
    inputs = PartitionGroup(queues)
    for topic, batches in fetches.items():
        first = 100
        for times in batches:
            none: list[bytes | None] = [None] * len(times)
            offsets = list(range(first, first + len(times)))
            first += len(times)
            inputs.add(TopicPartition(topic, 0), FetchedBatch(none, none, times, offsets, None, first))
    return inputs


def positions(inputs: PartitionGroup) -> list[Any]:
    return [(queue.next_offset, queue.partition_time, queue.buffered) for queue in inputs.queues.values()]


FETCHES = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), max_size=3), min_size=1
)


ALL_ROWS = 100
"""So many may be taken at once that nothing is cut; a cut changes whose turn it is among equal times."""


@given(FETCHES)
def test_turns_are_the_runs_one_after_the_other(fetches: dict[str, list[list[int]]]) -> None:
    runs, inputs = group(fetches), group(fetches)
    while (some := inputs.take_turns(ALL_ROWS)) is not None:
        singles: list[Any] = []
        while len(singles) < some.length:
            taken = runs.take(ALL_ROWS - len(singles))
            assert taken is not None
            singles += [(taken[0].tp, offset) for offset in taken[1].offsets or []]
        assert [some.origin(number) for number in range(some.length)] == singles
        assert positions(inputs) == positions(runs)
        numbered = {number: queue.tp for queue, batch in some.numbered() for number in batch.offsets or []}
        assert [numbered[number] for number in range(some.length)] == [tp for tp, _ in singles]
    assert inputs.buffered == 0


@given(owners=st.lists(st.sampled_from("abc"), max_size=40), max_rows=st.integers(1, 30), fetched=st.integers(1, 8))
def test_records_come_in_the_order_of_time_wherever_turns_are_cut(
    owners: list[str], max_rows: int, fetched: int
) -> None:
    times = {topic: [time for time, owner in enumerate(owners) if owner == topic] for topic in sorted({*owners})}
    inputs = group({topic: [own[i : i + fetched] for i in range(0, len(own), fetched)] for topic, own in times.items()})
    taken: list[Any] = []
    while (some := inputs.take_turns(max_rows)) is not None:
        assert 1 <= some.length <= max_rows
        origins = [some.origin(number) for number in range(some.length)]
        taken += [times[tp.topic][offset - 100] for tp, offset in origins]
    assert taken == list(range(len(owners)))
    assert inputs.buffered == 0


def test_alternating_inputs_come_together_when_many_rows_may_be_taken() -> None:
    inputs = group({"a": [[1, 3, 5, 7]], "b": [[2, 4, 6, 8]]})
    some = inputs.take_turns(100)
    assert some is not None
    assert [(queue.tp.topic, batch.offsets) for queue, batch in some.numbered()] == [
        ("a", [0, 2, 4, 6]),
        ("b", [1, 3, 5]),
    ]
    assert positions(inputs) == [(104, 7, 0), (103, 6, 1)]  # there might be more of a before the last of b


def test_a_number_that_was_not_given_has_no_origin() -> None:
    some = group({"a": [[1, 2]]}).take_turns(100)
    assert some is not None
    with pytest.raises(IndexError):
        some.origin(2)
