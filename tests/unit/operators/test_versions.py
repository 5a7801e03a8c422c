"""Tables with a versioned store: what is passed on of updates that are late, and what of their old values."""

from typing import Any

import pytest

from streamlib.operators.aggregate import stream_aggregate
from streamlib.operators.table import table_group_by, table_step
from streamlib.operators.table_source import table_source
from streamlib.operators.versions import runs_of_distinct
from streamlib.record import Change
from streamlib.topology.nodes import StreamAggregate, TableFilter, TableGroupBy, TableMapValues, TableSource

HISTORY_MS = 100


@pytest.fixture
def versioned(spec: Any) -> Any:
    return spec("t", kind="versioned", retention_ms=HISTORY_MS)


def latest(site: Any) -> list[list[bool] | None]:
    return [batch.latest for batch in site.out]


def test_late_updates_are_marked_and_too_late_ones_left_out(site, versioned, records):
    operator = site.build(table_source, TableSource(name="table", store="t", send_old=True), spec=versioned)
    headers = [[("n", b"%d" % number)] for number in range(5)]
    batch = records(("a", 1, 300), ("a", 2, 250), ("b", 3, 199), ("a", 4, 300), ("a", None, 310), headers=headers)
    operator.process(batch)
    assert latest(site) == [[True, False, True, True]]
    [out] = site.out
    assert (out.offsets, [header[0][1] for header in out.headers]) == ([100, 101, 103, 104], [b"0", b"1", b"3", b"4"])
    assert out.store_keys == [b"a"] * 4
    # The old value is the latest one, also for an update that goes before it.
    assert site.forwarded() == [("a", 1, 300, None), ("a", 2, 250, 1), ("a", 4, 300, 1), ("a", None, 310, 4)]
    assert site.stores["t"].expired == 1
    assert site.changelog.rows[2] == (b"b", b"3", 199)


def test_nothing_is_marked_when_every_update_is_the_latest(site, versioned, records):
    operator = site.build(table_source, TableSource(name="table", store="t"), spec=versioned)
    operator.process(records(("a", 1, 1), ("a", 2, 2)))
    assert latest(site) == [None]
    operator.process(records(("c", 9, 500)))
    site.out.clear()
    operator.process(records(("b", 1, 1)))
    assert site.out == []


def test_marks_pass_through_steps_without_store(site, changes):
    keep = TableFilter(name="f", predicate=lambda _key, value: value != 2, send_old=True, of_versions=True)
    batch = changes(("a", 1, None, 10), ("a", 2, 2, 5), ("a", 3, 1, 6))
    batch.latest = [True, False, False]
    site.build(table_step, keep).process(batch)
    assert latest(site) == [[True, False, False]]
    assert site.forwarded() == [("a", 1, 10, None), ("a", None, 5, None), ("a", 3, 6, 1)]


def test_deletions_of_nothing_go_no_further_when_the_table_above_has_no_versions(site, changes):
    keep = TableFilter(name="f", predicate=lambda _key, value: value != 2, send_old=True)
    site.build(table_step, keep).process(changes(("a", 1, None, 10), ("a", 2, 2, 11)))
    assert site.forwarded() == [("a", 1, 10, None)]


def test_marks_end_where_a_step_counts_all_as_latest(site, changes):
    batch = changes(("a", 1, None, 10), ("a", 2, 1, 5))
    batch.latest = [True, False]
    site.build(table_step, TableMapValues(name="m", mapper=str, all_latest=True)).process(batch)
    assert latest(site) == [None]


def test_a_filter_with_versions_knows_its_old_values_row_by_row(site, versioned, changes):
    node = TableFilter(name="f", predicate=lambda _key, value: value > 1, store="t", send_old=True)
    operator = site.build(table_step, node, spec=versioned)
    operator.process(changes(("a", 1, None, 10), ("a", 2, None, 11), ("b", 5, None, 11), ("a", 1, None, 12)))
    operator.process(changes(("a", 1, None, 13), ("a", 3, None, 11), ("a", 1, None, 9), ("b", 7, None, 10)))
    assert site.forwarded() == [
        *[("a", 2, 11, None), ("b", 5, 11, None), ("a", None, 12, 2)],
        *[("a", 3, 11, None), ("b", 7, 10, 5)],
    ]


def test_late_updates_are_not_regrouped(site, changes):
    operator = site.build(table_group_by, TableGroupBy(name="g", mapper=lambda key, value: (value, key)))
    batch = changes(("a", 1, None, 10), ("a", 2, 1, 5))
    batch.latest = [True, False]
    operator.process(batch)
    assert site.forwarded() == [(1, Change("a", None), 10)]


def test_an_aggregate_begins_in_the_past_when_it_is_deleted_later(site, versioned, records):
    def join(aggregate: str, value: str) -> str | None:
        return None if value == "x" else aggregate + value

    node = StreamAggregate(name="r", kind="reduce", store="t", aggregator=join, send_old=True)
    operator = site.build(stream_aggregate, node, spec=versioned)
    operator.process(records(("a", "1", 300), ("a", "x", 301), ("a", "2", 250), ("a", "3", 260), ("a", "4", 310)))
    operator.process(records(("b", "5", 199), ("b", "6", 320)))
    assert latest(site) == [None, None, [False], [False], None, None]
    assert site.forwarded() == [
        *[("a", "1", 300, None), ("a", None, 301, "1")],
        *[("a", "2", 250, None), ("a", "3", 260, None)],
        *[("a", "4", 310, None), ("b", "6", 320, None)],
    ]
    assert [timestamp for key, _, timestamp in site.changelog.rows if key == b"a"] == [300, 301, 250, 260, 310]
    assert site.stores["t"].expired == 1


def test_counts_begin_anew_after_a_version_that_was_left_out(site, versioned, records):
    operator = site.build(stream_aggregate, StreamAggregate(name="c", kind="count", store="t"), spec=versioned)
    operator.process(records(("a", "v", 300), ("b", "v", 100), ("b", "v", 250), ("b", "v", 120)))
    assert site.forwarded() == [("a", 1, 300), ("b", 1, 250), ("b", 2, 250)]


@pytest.mark.parametrize(
    ("raws", "runs"),
    [
        ([], []),
        ([b"a"], [(0, 1)]),
        ([b"a", b"b", b"a", b"a", b"b"], [(0, 2), (2, 3), (3, 5)]),
    ],
)
def test_no_key_comes_twice_in_a_run(raws: list[bytes], runs: list[tuple[int, int]]) -> None:
    assert list(runs_of_distinct(raws)) == runs
