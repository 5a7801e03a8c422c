from collections.abc import Callable
from typing import Any

import pytest

from streamlib.operators.outbox import Outbox, never_meet
from streamlib.record import Record, RecordBatch
from streamlib.serdes import JSON, STRING
from streamlib.topology.nodes import MapValues, Node, PassThrough, Sink
from streamlib.topology.topology import Topology

Sent = list[tuple[str, list[Any]]]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def make(sent: Sent) -> Callable[..., Outbox]:
    def to(name: str) -> Callable[[RecordBatch], None]:
        return lambda batch: sent.append((name, list(batch.values)))

    return lambda **options: Outbox(to("all"), to, frozenset({"a", "b"}), **options)


def record(value: int) -> Record[str, int]:
    return Record("k", value, 0)


def test_records_for_all_children_leave_together(make: Any, sent: Sent) -> None:
    outbox = make()
    for value in (1, 2, 3):
        outbox.add(record(value), value, None)
    assert sent == []
    outbox.send()
    outbox.send()
    assert sent == [("all", [1, 2, 3])]


def test_the_order_across_children_is_kept_when_their_ways_may_meet(make: Any, sent: Sent) -> None:
    outbox = make()
    for value, to in ((1, "a"), (2, "a"), (3, "b"), (4, None), (5, "a")):
        outbox.add(record(value), None, to)
    outbox.send()
    assert sent == [("a", [1, 2]), ("b", [3]), ("all", [4]), ("a", [5])]


def test_each_child_gets_one_batch_when_the_ways_never_meet(make: Any, sent: Sent) -> None:
    outbox = make(apart=True)
    for value, to in ((1, "a"), (2, "b"), (3, "a"), (4, None), (5, "a"), (6, "b")):
        outbox.add(record(value), None, to)
    outbox.send()
    for name, wanted in (("a", [1, 3, 4, 5]), ("b", [2, 4, 6])):
        assert [value for to, values in sent if to in {name, "all"} for value in values] == wanted
    assert len(sent) <= 5


def test_nothing_waits_when_a_node_below_must_be_seen(make: Any, sent: Sent) -> None:
    outbox = make(eager=True)
    outbox.add(record(1), 0, None)
    outbox.add(record(2), 0, "a")
    assert sent == [("all", [1]), ("a", [2])]


def test_offsets_and_headers_go_along_when_there_are_some() -> None:
    batches: list[RecordBatch] = []
    outbox = Outbox(batches.append, lambda _: batches.append, frozenset())
    outbox.add(record(1), 7, None)
    outbox.add(record(2).with_headers([("h", b"1")]), 8, None)
    outbox.send()
    outbox.add(record(3), None, None)
    outbox.send()
    assert [(batch.offsets, batch.headers) for batch in batches] == [([7, 8], [(), (("h", b"1"),)]), (None, None)]


def test_what_was_taken_is_forgotten_when_it_is_cleared(make: Any, sent: Sent) -> None:
    outbox = make()
    outbox.add(record(1), 0, None)
    outbox.clear()
    outbox.send()
    assert sent == []


def test_a_child_that_does_not_exist_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match='no child "c" to forward to; there are: "a", "b"'):
        make().add(record(1), 0, "c")
    with pytest.raises(ValueError, match="cannot be negative"):
        make().add(record(1).with_timestamp(-1), 0, None)


def topology(*nodes: Node) -> Topology:
    return Topology("test", {node.name: node for node in (PassThrough(name="top"), *nodes)}, {}, ())


def sink(name: str, parent: str, topic: str | None) -> Sink:
    topic_fn = None if topic else lambda key, value: "t"
    return Sink(name=name, parents=(parent,), topic=topic, topic_fn=topic_fn, key_serde=STRING, value_serde=JSON)


def mapped(name: str, *parents: str, stores: tuple[str, ...] = ()) -> MapValues:
    return MapValues(name=name, parents=parents, mapper=str, stores=stores)


LEFT, RIGHT = mapped("left", "top"), mapped("right", "top")


@pytest.mark.parametrize(
    ("nodes", "apart"),
    [
        ([LEFT, RIGHT, sink("x", "left", "x"), sink("y", "right", "y")], True),
        ([LEFT, RIGHT, sink("x", "left", "t"), sink("y", "right", "t")], False),
        ([LEFT, RIGHT, sink("x", "left", None), sink("y", "right", "t")], False),
        ([LEFT, RIGHT, mapped("both", "left", "right")], False),
        ([LEFT, RIGHT, mapped("p", "left", stores=("s",)), mapped("q", "right", stores=("s",))], False),
        ([LEFT, RIGHT, mapped("p", "left", stores=("s",)), mapped("q", "right", stores=("u",))], True),
    ],
    ids=["apart", "topic", "any topic", "node", "store", "two stores"],
)
def test_ways_meet_in_a_node_a_store_or_a_topic(nodes: list[Node], apart: bool) -> None:
    assert never_meet(topology(*nodes), "top") is apart
