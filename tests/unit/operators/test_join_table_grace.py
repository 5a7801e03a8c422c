"""Stream-table joins with versioned tables: as of the record's time, and with a grace."""

from typing import Any

import pytest

from streamlib.errors import DeserializationError, ProcessingError, SerdeError
from streamlib.operators.join_table import stream_table_join
from streamlib.operators.join_table_grace import stream_table_join_with_grace
from streamlib.record import TopicPartition
from streamlib.serdes import INT64
from streamlib.topology.nodes import StreamTableJoin, TableFilter, TableMapValues, TableSource

TABLE = TableSource(name="table", store="t")
BUFFER = "join-Buffer"


def join(*, grace_ms: int | None = 10, **changes: Any) -> StreamTableJoin:
    settings: dict[str, Any] = {"name": "join", "table": "table", "joiner": lambda left, right: f"{left}+{right}"}
    if grace_ms is not None:
        settings |= {"grace_ms": grace_ms, "buffer": BUFFER}
    return StreamTableJoin(**{**settings, "stores": ("t",), **changes})


def joined(site: Any, spec: Any, node: StreamTableJoin, *others: Any, **buffer: Any) -> Any:
    """The operator over a versioned table: a is 1 from 10 on, 2 from 20 on, and deleted at 30."""
    builder = stream_table_join if node.buffer is None else stream_table_join_with_grace
    table = spec("t", kind="versioned", retention_ms=1_000)
    operator = site.build(
        builder, node, others=[TABLE, *others], specs=[table, spec(BUFFER, kind="join_buffer", **buffer)]
    )
    site.stores["t"].put_versions([b"a"] * 3, [1, 2, None], [10, 20, 30])
    return operator


def test_a_record_meets_the_version_of_its_time_when_the_table_is_versioned(site, spec, records):
    operator = joined(site, spec, join(grace_ms=None, left=True))
    operator.process(records(("a", "x", 9), ("a", "x", 10), (None, "n", 15), ("a", "x", 29), ("a", "x", 30)))
    assert site.forwarded() == [
        ("a", "x+None", 9),
        ("a", "x+1", 10),
        (None, "n+None", 15),
        ("a", "x+2", 29),
        ("a", "x+None", 30),
    ]


def test_the_past_is_seen_through_filters_and_mappings_without_store(site, spec, records):
    mapped = TableMapValues(name="mapped", parents=("table",), mapper=lambda value: value * 10)
    odd = TableFilter(name="odd", parents=("mapped",), predicate=lambda _key, value: value < 15)
    operator = joined(site, spec, join(grace_ms=None, table="odd"), mapped, odd)
    operator.process(records(("a", "x", 15), ("a", "x", 25)))
    assert site.forwarded() == [("a", "x+10", 15)]


def test_records_wait_for_late_updates_when_there_is_a_grace(site, spec, records):
    operator = joined(site, spec, join())
    operator.process(records(("a", "x", 15), ("a", "y", 12)))
    assert site.forwarded() == []
    site.stores["t"].put(b"a", 7, 14)
    operator.process(records(("b", "z", 25), ("a", "late", 11)))
    assert site.forwarded() == [("a", "y+1", 12), ("a", "x+7", 15), ("a", "late+1", 11)]


def test_a_record_keeps_its_place_of_origin_while_it_waits(site, spec, records):
    operator = joined(site, spec, join())
    places = []
    site.tp = TopicPartition("one", 3)
    operator._lookup._forward = lambda batch: places.append((site.tp, batch.offsets, batch.headers))
    operator.process(records(("a", "x", 15), headers=[[("h", b"1")]]))
    site.tp = TopicPartition("two", 3)
    operator.process(records(("a", "y", 27), ("a", "z", 50)))
    assert places == [
        (TopicPartition("one", 3), [100], [(("h", b"1"),)]),
        (TopicPartition("two", 3), [100], None),
    ]
    assert site.tp == TopicPartition("two", 3)


def test_null_values_are_dropped_and_do_not_move_the_time(site, spec, records):
    operator = joined(site, spec, join())
    operator.process(records(("a", "x", 15), ("a", None, 99), (None, "x", 99)))
    assert site.forwarded() == []
    assert (site.dropped(reason="null-value"), site.dropped(reason="null-key")) == (1, 1)


def test_a_record_without_key_fails_when_left_joined(site, skipping, spec, records):
    with pytest.raises(ProcessingError):
        joined(site, spec, join(left=True)).process(records(("a", "x", 15), (None, "y", 16)))
    [(error, node, key, value, timestamp, offset)] = site.failures
    assert (node, key, value, timestamp, offset) == ("join", None, "y", 16, 101)
    assert "filter them out" in error
    operator = joined(skipping, spec, join(left=True))
    operator.process(records((None, "y", 16), ("a", "x", 15), ("a", "z", 99)))
    assert skipping.forwarded() == [("a", "x+1", 15)]


def test_a_late_record_without_match_comes_out_at_once_when_left_joined(site, spec, records):
    operator = joined(site, spec, join(left=True))
    operator.process(records(("b", "x", 50), ("b", "y", 39), ("b", "z", 40)))
    assert site.forwarded() == [("b", "y+None", 39), ("b", "z+None", 40)]


def test_a_failing_joiner_loses_one_record_when_errors_are_skipped(skipping, spec, records):
    def refuse(left: str, right: int) -> str:
        return f"{left}{10 // (right - 1)}"

    operator = joined(skipping, spec, join(joiner=refuse))
    operator.process(records(("a", "x", 15), ("a", "y", 25), ("b", "z", 99)))
    assert skipping.forwarded() == [("a", "y10", 25)]
    assert [failure[1:5] for failure in skipping.failures] == [("join", "a", "x", 15)]


def test_what_waits_is_joined_when_the_worker_begins_anew(new_site, spec, records):
    site, restarted = new_site(), new_site()
    joined(site, spec, join()).process(records(("a", "x", 15)))
    operator = joined(restarted, spec, join())
    logged = [row for row in site.changelog.rows if row[0].startswith(b"\x00")]
    restarted.stores[BUFFER].restore(*map(list, zip(*logged, strict=True)))
    operator.init()
    operator.process(records(("a", "late", 4), ("b", "z", 99)))
    assert restarted.forwarded() == [("a", "x+1", 15)]


def test_the_error_names_the_node_when_a_serde_refuses(site, spec, records):
    operator = joined(site, spec, join(), value_serde=INT64)
    with pytest.raises(SerdeError, match="node=join"):
        operator.process(records(("a", "text", 15)))


def test_the_error_names_the_node_when_what_waits_is_refused(site, spec, records):
    operator = joined(site, spec, join())
    operator.process(records(("a", "x", 15)))
    operator._value_serde = INT64
    with pytest.raises(DeserializationError, match=r"held back is refused .* node=join"):
        operator.process(records(("a", 1, 99)))
