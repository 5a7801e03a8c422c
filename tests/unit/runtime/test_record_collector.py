"""Where partitioners send records."""

from collections.abc import Callable
from typing import Any

import pytest

from streamlib import serdes
from streamlib.errors import ProcessingError
from streamlib.metrics import Metrics
from streamlib.record import RecordBatch, TopicPartition
from streamlib.runtime.record_collector import RecordCollector
from streamlib.topology.nodes import Sink

S = serdes.STRING


class Partitions:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Any, Any, int, Any]] = []

    @property
    def current(self) -> "Partitions":
        return self

    def append(self, tp: TopicPartition, keys: Any, values: Any, timestamps: Any, headers: Any = None) -> None:
        self.rows += [
            (tp.partition, *row) for row in zip(keys, values, timestamps, headers or [()] * len(keys), strict=True)
        ]


def sent(partitioner: Callable[[Any, Any, int], Any], *values: str | None, count: int = 3) -> tuple[Any, int]:
    producer, metrics = Partitions(), Metrics()
    collector = RecordCollector(producer, {"out": count}, str, metrics)
    sink = Sink(name="sink", topic="out", key_serde=S, value_serde=S, partitioner=partitioner)
    length = len(values)
    headers = [(("h", value.encode()),) if value else () for value in values]
    collector.send(sink, RecordBatch(["k"] * length, [*values], [*range(length)], [*range(length)], headers))
    found = [(partition, value and value.decode(), timestamp) for partition, _, value, timestamp, _ in producer.rows]
    assert [each[4] for each in producer.rows] == [headers[timestamp] for _, _, timestamp in found]
    return found, metrics.total("dropped_records_total", node="sink", reason="no-partition")


def chosen(_key: str, value: str, count: int) -> Any:
    return {"one": 1, "last": count - 1, "both": [2, 0], "twice": (1, 1), "none": set(), "all": range(count)}.get(value)


def test_each_record_goes_to_the_partition_that_was_chosen() -> None:
    assert sent(chosen, "one", "last", "one") == ([(1, "one", 0), (1, "one", 2), (2, "last", 1)], 0)


def test_a_record_goes_to_several_partitions_once_each() -> None:
    rows, dropped = sent(chosen, "one", "both", "twice", "all")
    assert rows == [
        (0, "both", 1),
        (0, "all", 3),
        (1, "one", 0),
        (1, "twice", 2),
        (1, "all", 3),
        (2, "both", 1),
        (2, "all", 3),
    ]
    assert dropped == 0


def test_a_record_without_a_partition_is_dropped_and_counted() -> None:
    assert sent(chosen, "none", "one", "none") == ([(1, "one", 1)], 2)
    assert sent(chosen, "none", count=1) == ([], 1)


def test_none_leaves_the_choice_to_the_key() -> None:
    by_key, _ = sent(lambda *_: None, "x", "y")
    assert sent(chosen, "else", "both", "else")[0].count((by_key[0][0], "else", 0)) == 1


@pytest.mark.parametrize("wrong", [3, -1, "1", [0, 7]])
def test_a_partition_that_does_not_exist_is_refused(wrong: Any) -> None:
    with pytest.raises(ProcessingError, match=r"the partitioner chose partition .* of 3: node=sink topic=out"):
        sent(lambda *_: wrong, "x")


def test_a_partitioner_that_raises_names_the_record() -> None:
    with pytest.raises(ProcessingError, match=r"the partitioner raised KeyError.*node=sink topic=out input offset=1"):
        sent(lambda _, value, __: {"x": 0}[value], "x", "y")
