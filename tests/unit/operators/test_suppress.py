"""Suppressed tables: what is let go and when, with which old values, headers and origin; and how joins see them.

Whole scenarios, names and changelogs are compared with Kafka Streams in the conformance tests.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import ProcessingError, SerdeError
from streamlib.operators.suppress import suppress, suppressed_getter
from streamlib.record import ChangeBatch, TopicPartition, Windowed
from streamlib.serdes import INT64, JSON, STRING
from streamlib.serdes.windowed import time_windowed_ms
from streamlib.state.buffered_rows import decode
from streamlib.topology.nodes import PassThrough, Source, TableFilter, TableSource
from streamlib.topology.suppress_nodes import TableSuppress

IN, OTHER = TopicPartition("in", 0), TopicPartition("other", 1)
SOURCE = Source(name="source", topics=("in",), key_serde=STRING, value_serde=JSON)
ELSEWHERE = Source(name="elsewhere", topics=("other",), key_serde=STRING, value_serde=JSON)
WINDOWED = time_windowed_ms(STRING, 10)


def node(parents: tuple[str, ...] = ("source",), wait_ms: int = 5, **changes: Any) -> TableSuppress:
    return TableSuppress(name="held", parents=parents, stores=("buffer",), buffer="buffer", wait_ms=wait_ms, **changes)


def built(site: Any, spec: Any, value_serde: Any = JSON, key_serde: Any = STRING, **changes: Any) -> Any:
    described = spec("buffer", kind="buffer", value_serde=value_serde, key_serde=key_serde)
    operator = site.build(suppress, node(**changes), others=[SOURCE, ELSEWHERE], spec=described)
    operator.init()
    return operator


def windowed(key: str, start: int) -> Windowed[str]:
    return Windowed(key, start, start + 10)


@pytest.mark.parametrize("value_serde", [JSON, INT64], ids=["mutable", "immutable"])
def test_the_last_update_comes_out_when_the_time_since_the_first_has_passed(site, spec, changes, value_serde):
    operator = built(site, spec, value_serde)
    operator.process(changes(("a", 1, None, 10), ("b", 1, None, 12), ("a", 2, 1, 14)))
    assert site.forwarded() == []
    operator.process(changes(("c", 1, None, 15), ("d", 1, None, 16)))
    assert site.forwarded() == [("a", 2, 14, 1)]
    operator.process(changes(("b", None, 1, 17)))
    assert site.forwarded() == [("b", None, 17, 1)]


def test_every_update_comes_out_at_once_when_nothing_is_to_wait(site, spec, changes):
    operator = built(site, spec, wait_ms=0)
    operator.process(changes(("a", 1, None, 10), ("a", 2, 1, 10), ("b", 1, None, 9)))
    assert site.forwarded() == [("a", 1, 10, None), ("a", 2, 10, 1), ("b", 1, 9, None)]


def test_an_update_does_not_wait_when_it_is_late_already(site, spec, changes):
    operator = built(site, spec)
    operator.process(changes(("a", 1, None, 100), ("b", 1, None, 95), ("c", 1, None, 96)))
    assert site.forwarded() == [("b", 1, 95, None)]


def test_final_results_come_by_the_end_of_their_window_and_deletions_do_not(site, spec, changes):
    operator = built(site, spec, key_serde=WINDOWED, final=True, wait_ms=2)
    first, second, gone = windowed("a", 0), windowed("b", 0), windowed("c", 0)
    operator.process(changes((first, 1, None, 3), (second, 1, None, 4), (gone, 1, None, 5), (gone, None, 1, 6)))
    operator.process(changes((windowed("a", 10), 1, None, 11), (first, 2, 1, 7)))
    assert site.forwarded() == []
    operator.process(changes((windowed("a", 10), 2, 1, 12)))
    assert site.forwarded() == [(first, 2, 7, 1), (second, 1, 4, None)]
    assert len(site.stores["buffer"]) == 1


def test_final_results_are_refused_when_keys_are_not_windowed(site, spec, changes):
    operator = built(site, spec, final=True)
    with pytest.raises(ProcessingError, match=r"not windowed any more, so no window closes: node=held\. Suppress it"):
        operator.process(changes(("a", 1, None, 1)))


def test_the_first_in_time_come_early_when_there_are_too_many_records(site, spec, changes):
    operator = built(site, spec, wait_ms=1000, records_max=2)
    operator.process(
        changes(("b", 1, None, 1), ("a", 1, None, 1), ("b", 2, 1, 9), ("c", 1, None, 0), ("d", 1, None, 5))
    )
    assert site.forwarded() == [("c", 1, 0, None), ("a", 1, 1, None)]
    assert len(site.stores["buffer"]) == 2


def test_everything_comes_at_once_when_nothing_may_be_held(site, spec, changes):
    operator = built(site, spec, wait_ms=1000, records_max=0)
    operator.process(changes(("b", 1, None, 1), ("a", 1, None, 2)))
    assert site.forwarded() == [("b", 1, 1, None), ("a", 1, 2, None)]


@pytest.mark.parametrize("value_serde", [JSON, STRING], ids=["mutable", "immutable"])
def test_the_first_in_time_come_early_when_they_take_too_many_bytes(site, spec, changes, value_serde):
    row = 8 + len("a") + 16 + len("in") + 4
    value = len(value_serde.serialize("x"))
    operator = built(site, spec, value_serde, wait_ms=1000, bytes_max=2 * (row + value) + 2)
    operator.process(changes(("a", "x", None, 1), ("b", "x", None, 2)))
    assert site.forwarded() == []
    operator.process(changes(("b", "xxx", "x", 3)))
    assert site.forwarded() == [("a", "x", 1, None)]


def test_a_full_buffer_is_an_error_when_it_must_not_emit_early(site, spec, changes):
    operator = built(site, spec, records_max=2, bytes_max=10_000, shut_down_when_full=True)
    with pytest.raises(ProcessingError, match="held failed at offset 4"):
        operator.process(
            changes(("a", 1, None, 1), ("b", 1, None, 2), ("b", 2, 1, 6), ("c", 1, None, 6), ("d", 1, None, 6))
        )
    assert site.forwarded() == [("a", 1, 1, None)]
    [(error, *place)] = site.failures
    assert error.startswith("BufferFullError('the buffer of a suppressed table is full (3 of 2 records, ")
    assert " of 10000 bytes), and it must not emit early: node=held topic=in partition=0 offset=4. " in error
    assert place == ["held", "d", 1, 6, 4]


def test_a_full_buffer_holds_more_than_it_may_when_such_errors_are_skipped(skipping, spec, changes):
    operator = built(skipping, spec, records_max=1, shut_down_when_full=True)
    operator.process(changes(("a", 1, None, 1), ("b", 1, None, 2), ("c", 1, None, 3), ("d", 1, None, 7)))
    assert [failure[2] for failure in skipping.failures] == ["b", "c", "d"]
    assert skipping.forwarded() == [("a", 1, 1, None), ("b", 1, 2, None)]


def test_headers_and_offsets_are_those_of_the_last_update_when_it_comes_out(site, spec):
    operator = built(site, spec)
    headers = [[("h", b"1")], [("h", b"2")], ()]
    operator.process(ChangeBatch(["a", "a", "b"], [1, 2, 1], [1, 2, 3], [7, 8, 9], headers, [None, 1, None]))
    operator.process(ChangeBatch(["z"], [1], [20], [10], None, [None]))
    [batch] = site.out
    assert (batch.offsets, [list(each) for each in batch.headers]) == ([8, 9], [[("h", b"2")], []])
    operator.process(ChangeBatch(["z"], [1], [40], [11], None, [None]))
    assert site.out[-1].headers is None


def test_updates_are_forwarded_as_if_their_own_records_were_at_hand(site, spec, changes):
    class Seen(list):
        def append(self, batch):
            super().append((site.tp, batch.keys, batch.offsets))

    site.out = Seen()
    operator = built(site, spec, parents=("source", "elsewhere"))
    operator.process(changes(("a", 1, None, 1)))
    site.tp = OTHER
    operator.process(changes(("b", 1, None, 2), ("c", 1, None, 3)))
    site.tp = None
    flushed = changes(("d", 1, None, 4))
    flushed.offsets = None
    operator.process(flushed)
    site.tp = IN
    operator.process(changes(("e", 1, None, 9)))
    assert list(site.out) == [(IN, ["a"], [0]), (OTHER, ["b", "c"], [0, 1]), (None, ["d"], None)]
    assert site.tp == IN


def test_a_cache_flush_is_put_down_to_the_only_source_topic_when_there_is_one(site, spec, changes):
    merged = PassThrough(name="merged", parents=("source",))
    described = spec("buffer", kind="buffer")
    operator = site.build(suppress, node(("merged",)), others=[SOURCE, merged], spec=described)
    operator.init()
    site.tp, flushed = None, changes(("a", 1, None, 4))
    flushed.offsets = None
    operator.process(flushed)
    operator.flush()
    [(_, row, _)] = site.changelog.rows
    assert decode(row).origin == (4, -1, IN, ())


def test_what_waits_is_logged_when_it_is_flushed_and_back_after_a_restart(site, spec, changes):
    operator = built(site, spec, key_serde=WINDOWED, final=True)
    first, second = windowed("a", 0), windowed("b", 0)
    operator.process(changes((first, 1, None, 3), (second, 1, None, 4)))
    site.clock.advance_ms(77)
    assert [operator.flush(1), operator.flush(1), operator.flush(1)] == [1, 0, 0]
    assert [(key, timestamp) for key, _, timestamp in site.changelog.rows] == [
        (WINDOWED.serialize(first), 77),
        (WINDOWED.serialize(second), 77),
    ]
    operator.init()
    operator.process(changes((windowed("a", 20), 1, None, 20)))
    assert site.forwarded() == [(first, 1, 3, None), (second, 1, 4, None)]


def test_time_begins_anew_after_a_restart(site, spec, changes):
    operator = built(site, spec)
    operator.process(changes(("a", 1, None, 100)))
    operator.init()
    operator.process(changes(("b", 1, None, 50)))
    assert site.forwarded() == []


def test_a_key_is_refused_when_it_does_not_fit_the_serde(site, spec, changes):
    operator = built(site, spec)
    with pytest.raises(SerdeError, match=r"the key serde string cannot write a key: .*: node=held\."):
        operator.process(changes((5, 1, None, 1)))


@pytest.mark.parametrize("filtered", [False, True], ids=["stored", "computed"])
def test_a_join_sees_the_value_from_before_while_a_key_waits(site, spec, changes, filtered):
    above = TableSource(name="rows", parents=("source",), store="rows", send_old=True)
    step = TableFilter(name="odd", parents=("rows",), predicate=lambda _, v: v % 2 == 1, send_old=True)
    held = node(("odd" if filtered else "rows",))
    specs = [spec("rows"), spec("buffer", kind="buffer")]
    getter = site.build(suppressed_getter, held, others=[SOURCE, above, step], specs=specs)
    buffer = site.stores["buffer"]
    site.tables["rows"].store.put_many([b"a", b"b", b"c", b"d"], [1, 2, 3, 4], [10, 20, 30, 40])
    (old,) = buffer.encode_many([9])
    buffer.put(1, b"a", "a", old, None, (1, 1, IN, ()))
    buffer.put(1, b"b", "b", None, None, (1, 1, IN, ()))
    keys = ["a", "b", "c", "d", "e"]
    found = [getter.compute(key, row) for key, row in zip(keys, getter.fetch(keys), strict=True)]
    assert [None if row is None else tuple(row[:2]) for row in found] == [
        (9, -1),
        None,
        (3, 30),
        None if filtered else (4, 40),
        None,
    ]
    assert (list(getter.fetch([])), getter.stored, getter.fetch_as_of) == ([], False, None)


updates = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.none() | st.integers(0, 2), st.integers(0, 30)), min_size=1
)


@given(
    updates=updates,
    cut=st.integers(1, 5),
    wait_ms=st.integers(0, 8),
    records_max=st.none() | st.integers(0, 3),
    bytes_max=st.none() | st.integers(0, 150),
)
def test_results_are_the_same_however_records_are_cut_into_batches(
    new_site, spec, changes, updates, cut, wait_ms, records_max, bytes_max
):
    table: dict[str, Any] = {}
    rows = []
    for key, value, timestamp in updates:
        rows.append((key, value, table.get(key), timestamp))
        table[key] = value
    results = []
    for size in (1, cut):
        site = new_site()
        operator = built(site, spec, wait_ms=wait_ms, records_max=records_max, bytes_max=bytes_max)
        for first in range(0, len(rows), size):
            operator.process(changes(*rows[first : first + size]))
        results.append((site.forwarded(), len(site.stores["buffer"])))
    assert results[0] == results[1]
