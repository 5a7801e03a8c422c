"""A task takes records of both sides of a join in turns, and errors and positions are those of single runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from streamlib import JoinWindows, StreamsBuilder, Topology, serdes
from streamlib.errors import ProcessingError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.task import Task
from streamlib.testing import TopologyTestDriver

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")

LEFT, RIGHT = TopicPartition("left", 0), TopicPartition("right", 0)


def joined(joiner: Callable[[str, str], str]) -> Topology:
    builder = StreamsBuilder()
    left, right = (builder.stream(topic, serdes.STRING, serdes.STRING) for topic in ("left", "right"))
    left.join(right, joiner, JoinWindows.of(timedelta(seconds=1))).map_values(str.upper).to("out")
    return builder.build()


def fetched(first_offset: int, *rows: tuple[bytes, int]) -> FetchedBatch:
    values, times = map(list, zip(*rows, strict=True))
    offsets = list(range(first_offset, first_offset + len(rows)))
    return FetchedBatch([b"k"] * len(rows), values, times, offsets, None, offsets[-1] + 1)


@contextmanager
def waiting(topology: Topology, *, rows_at_once: int) -> Iterator[tuple[Task, TopologyTestDriver]]:
    """A task with records of both sides at alternating times."""
    with TopologyTestDriver(topology, batch_rows=rows_at_once) as driver:
        driver.task.add(LEFT, fetched(10, (b"a", 1), (b"b", 3), (b"c", 5)))
        driver.task.add(RIGHT, fetched(20, (b"x", 2), (b"y", 4), (b"z", 6)))
        yield driver.task, driver


def test_many_turns_are_one_step_and_give_what_single_records_give() -> None:
    results, steps = [], []
    for rows_at_once in (1, 100):
        with waiting(joined(lambda a, b: a + b), rows_at_once=rows_at_once) as (task, driver):
            steps.append(0)
            while task.buffered:
                task.process(rows_at_once)
                steps[-1] += 1
            held = {tp: entry.offset for tp, entry in task.offsets().items()}
            assert (held, task.context.stream_time) == ({LEFT: 13, RIGHT: 23}, 6)
            results.append([(row.key, row.value, row.timestamp_ms) for row in driver.logs.topics["out"]])
    assert [value for _, value, _ in results[0]] == [b"AX", b"BX", b"AY", b"BY", b"CX", b"CY", b"AZ", b"BZ", b"CZ"]
    assert results[1] == results[0]
    assert steps == [6, 2]  # what follows the last record of the left side might come before the last of the right


@pytest.mark.parametrize(("refused", "place"), [("bx", "topic=left partition=0 offset=11"), ("ay", "offset=21")])
def test_an_error_names_the_record_that_it_came_from_when_records_come_in_turns(refused: str, place: str) -> None:
    def refuse(left: str, right: str) -> str:
        if left + right == refused:
            raise ValueError(refused)
        return left + right

    with waiting(joined(refuse), rows_at_once=100) as (task, _), pytest.raises(ProcessingError, match=place):
        task.process(100)
