"""A region whose rows go all the way down one by one: the same rows as in batches, in the order of the Java library."""

from typing import Any

import pytest

from streamlib.errors import ProcessingError, SerdeError
from streamlib.operators.fusion import fuse
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes import JSON, STRING
from streamlib.topology.interference import region
from streamlib.topology.nodes import (
    Filter,
    FlatMapValues,
    MapValues,
    Node,
    PassThrough,
    Sink,
    Source,
    TableToStream,
)
from streamlib.topology.topology import Topology

SOURCE = Source(name="source", topics=("in",), key_serde=STRING, value_serde=JSON)


def sink(name: str, *parents: str) -> Sink:
    return Sink(name=name, parents=parents, topic=name, key_serde=STRING, value_serde=JSON)


class Failures:
    def __init__(self, *, skip: bool) -> None:
        self.seen: list[tuple[str, Any, int, int | None]] = []
        self._skip = skip

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        self.seen.append((node, value, timestamp, offset))
        if not self._skip:
            raise ProcessingError(node) from error


def run(nodes: list[Node], batch: RecordBatch, errors: Failures | None = None) -> list[tuple[str, RecordBatch]]:
    """What reaches the exits, in the order of arrival."""
    topology = Topology("test", {node.name: node for node in [SOURCE, *nodes]}, {}, ())
    arrived: list[tuple[str, RecordBatch]] = []
    forwards = {name: lambda batch, name=name: arrived.append((name, batch)) for name in region(topology, "source")[1]}
    handler = errors or Failures(skip=False)
    fuse(topology, "source", forwards, handler, "<test>", ordered=True)(batch)  # type: ignore[arg-type]
    return arrived


def batch(*values: Any, headers: list[Any] | None = None) -> RecordBatch:
    count = len(values)
    return RecordBatch(["k"] * count, list(values), list(range(count)), list(range(10, 10 + count)), headers)


def rows(arrived: list[tuple[str, RecordBatch]]) -> list[tuple[str, Any]]:
    assert all(len(each) == 1 for _, each in arrived)
    return [(name, each.values[0]) for name, each in arrived]


TWICE = FlatMapValues(name="twice", parents=("source",), mapper=lambda v: [v, v + 1])


def test_each_row_reaches_every_exit_before_the_next_one() -> None:
    nodes = [
        TWICE,
        sink("a", "twice"),
        MapValues(name="neg", parents=("twice",), mapper=lambda v: -v),
        sink("b", "neg"),
    ]
    arrived = run(nodes, batch(1, 5))
    assert rows(arrived) == [(name, sign * v) for v in (1, 2, 5, 6) for name, sign in (("a", 1), ("b", -1))]
    assert [(each.timestamps, each.offsets) for _, each in arrived[::4]] == [([0], [10]), ([1], [11])]


def test_a_row_that_comes_by_two_ways_arrives_between_its_siblings() -> None:
    nodes = [
        MapValues(name="m", parents=("source",), mapper=lambda v: v * 10),
        sink("a", "source"),
        PassThrough(name="both", parents=("m", "source")),
        sink("b", "both"),
    ]
    assert rows(run(nodes, batch(1, 2))) == [("b", 10), ("a", 1), ("b", 1), ("b", 20), ("a", 2), ("b", 2)]


def test_headers_go_along() -> None:
    arrived = run([TWICE, sink("a", "twice")], batch(1, 2, headers=[[("h", b"1")], []]))
    assert [each.headers for _, each in arrived] == [[[("h", b"1")]], [[("h", b"1")]], [[]], [[]]]


def test_rows_without_offsets_stay_without() -> None:
    arrived = run([TWICE, sink("a", "twice")], RecordBatch(["k"], [1], [0]))
    assert [each.offsets for _, each in arrived] == [None, None]


def test_updates_stay_updates_on_their_way_to_a_table() -> None:
    given = ChangeBatch(["a", "b"], [1, 2], [0, 1], olds=[None, 7], latest=[True, False])
    given.store_keys = [b"a", b"b"]
    nodes = [sink("table", "source"), TableToStream(name="stream", parents=("source",)), sink("out", "stream")]
    arrived = run(nodes, given)
    assert [name for name, _ in arrived] == ["table", "out", "table", "out"]
    changes = [each for name, each in arrived if name == "table"]
    assert [(each.values, each.olds, each.latest, each.store_keys) for each in changes] == [  # type: ignore[attr-defined]
        ([1], [None], [True], [b"a"]),
        ([2], [7], [False], [b"b"]),
    ]


@pytest.mark.parametrize("with_headers", [False, True])
def test_siblings_still_get_the_row_that_fails_elsewhere(with_headers: bool) -> None:
    nodes = [
        Filter(name="f", parents=("source",), predicate=lambda _, v: 1 // v),
        sink("a", "f"),
        sink("b", "source"),
    ]
    errors = Failures(skip=True)
    given = batch(1, 0, headers=[[("h", b"1")], [("h", b"2")]] if with_headers else None)
    assert rows(run(nodes, given, errors)) == [("a", 1), ("b", 1), ("b", 0)]
    assert errors.seen == [("f", 0, 1, 11)]


def test_what_an_exit_raises_is_not_taken_for_an_error_of_the_flat_map_above_it() -> None:
    def refuse(_: RecordBatch) -> None:
        raise SerdeError("refused below")

    topology = Topology("test", {node.name: node for node in [SOURCE, TWICE, sink("a", "twice")]}, {}, ())
    errors = Failures(skip=True)
    forward = fuse(topology, "source", {"a": refuse}, errors, "<test>", ordered=True)
    with pytest.raises(SerdeError, match="refused below"):
        forward(batch(1))
    assert errors.seen == []
