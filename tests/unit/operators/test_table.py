from typing import Any

import pytest

from streamlib.errors import ProcessingError
from streamlib.operators.table import table_group_by, table_step
from streamlib.record import Change
from streamlib.topology.nodes import TableFilter, TableGroupBy, TableMapValues

MB = 1 << 20
UPDATES = [("a", 1, None, 1), ("a", 5, 1, 2), ("a", 6, 5, 3), ("a", 2, 6, 4), ("a", None, 2, 5), ("b", None, None, 6)]


def big(store: str | None = None, *, send_old: bool = False, **changes: Any) -> TableFilter:
    return TableFilter(name="big", predicate=lambda _, v: v > 3, store=store, send_old=send_old, **changes)


def doubled(store: str | None = None, *, send_old: bool = False) -> TableMapValues:
    return TableMapValues(name="doubled", mapper=lambda v: v * 2, store=store, send_old=send_old)


def test_a_filter_forwards_deletions_of_rows_that_never_passed_when_old_values_are_unknown(site, changes):
    operator = site.build(table_step, big())
    operator.process(changes(*UPDATES, olds=False))
    assert site.forwarded() == [
        ("a", None, 1),
        ("a", 5, 2),
        ("a", 6, 3),
        ("a", None, 4),
        ("a", None, 5),
        ("b", None, 6),
    ]


def test_a_filter_swallows_nothing_to_nothing_when_old_values_are_known(site, changes):
    operator = site.build(table_step, big(send_old=True))
    operator.process(changes(*UPDATES))
    assert site.forwarded() == [("a", 5, 2, None), ("a", 6, 3, 5), ("a", None, 4, 6)]


def test_a_filter_forgets_old_values_when_nobody_below_wants_them(site, changes):
    operator = site.build(table_step, big())
    operator.process(changes(("a", 5, 4, 1)))
    [batch] = site.out
    assert batch.olds is None


def test_what_is_not_the_latest_is_still_told_apart_behind_a_filter(site, changes):
    batch = changes(("a", 1, None, 1), ("a", 5, None, 2), ("b", 6, None, 3))
    batch.latest = [True, False, True]
    site.build(table_step, big(send_old=True)).process(batch)
    [out] = site.out
    assert (out.values, out.latest) == ([5, 6], [False, True])


@pytest.mark.parametrize("send_old", [False, True])
def test_a_stored_filter_takes_old_values_from_its_store(site, spec, changes, send_old):
    operator = site.build(table_step, big("f", send_old=send_old), spec=spec("f"))
    operator.process(changes(*UPDATES, olds=False))
    if send_old:
        assert site.forwarded() == [("a", 5, 2, None), ("a", 6, 3, 5), ("a", None, 4, 6)]
    else:
        assert [row[1] for row in site.forwarded()] == [None, 5, 6, None, None, None]
    assert site.stored("f") == {}


@pytest.mark.parametrize("send_old", [False, True])
def test_a_cached_filter_forwards_no_deletion_of_what_the_store_does_not_have(site, spec, changes, send_old):
    operator = site.build(table_step, big("f", send_old=send_old), spec=spec("f"), cache_bytes=MB)
    operator.process(changes(("a", 1, None, 1), ("b", 5, None, 2), ("c", 7, None, 2), ("c", 1, 7, 2), olds=False))
    operator.flush()
    assert [row[:3] for row in site.forwarded()] == [("b", 5, 2)]
    operator.process(changes(("b", 1, 5, 3), ("a", 2, 1, 4), olds=False))
    operator.flush()
    assert site.forwarded() == [("b", None, 3, 5) if send_old else ("b", None, 3)]


def test_filter_not_keeps_the_others(site, changes):
    operator = site.build(table_step, big(negate=True))
    operator.process(changes(("a", 1, None, 1), ("b", 5, None, 2)))
    assert site.forwarded() == [("a", 1, 1), ("b", None, 2)]


def test_map_values_passes_every_update_and_never_maps_none(site, changes):
    operator = site.build(table_step, doubled())
    operator.process(changes(("a", 1, None, 1), ("a", None, 1, 2), ("a", None, None, 3), olds=False))
    assert site.forwarded() == [("a", 2, 1), ("a", None, 2), ("a", None, 3)]


def test_map_values_maps_old_values_when_it_has_no_store(site, changes):
    operator = site.build(table_step, doubled(send_old=True))
    operator.process(changes(("a", 3, 1, 1), ("a", None, 3, 2)))
    assert site.forwarded() == [("a", 6, 1, 2), ("a", None, 2, 6)]


def test_map_values_takes_old_values_from_its_store_when_it_has_one(site, spec, changes):
    operator = site.build(table_step, doubled("m", send_old=True), spec=spec("m"))
    operator.process(changes(("a", 3, 999, 1), ("a", 4, 999, 2), ("b", None, None, 3)))
    assert site.forwarded() == [("a", 6, 1, None), ("a", 8, 2, 6), ("b", None, 3, None)]
    assert site.stored("m") == {b"a": (8, 2)}


def test_map_values_sees_the_key_when_asked(site, changes):
    operator = site.build(table_step, TableMapValues(name="m", mapper=lambda k, v: k * v, with_key=True))
    operator.process(changes(("a", 3, None, 1)))
    assert site.forwarded() == [("a", "aaa", 1)]


def test_a_row_whose_function_raises_is_left_out_when_errors_are_skipped(skipping, site, spec, changes):
    node = TableMapValues(name="m", mapper=lambda v: 6 // v, store="m")
    skipping.build(table_step, node, spec=spec("m")).process(
        changes(("a", 1, None, 1), ("b", 0, None, 2), ("c", 3, None, 3))
    )
    assert skipping.forwarded() == [("a", 6, 1), ("c", 2, 3)]
    assert [failure[1:] for failure in skipping.failures] == [("m", "b", 0, 2, 1)]
    with pytest.raises(ProcessingError):
        site.build(table_step, node, spec=spec("m")).process(changes(("b", 0, None, 2)))


def by_first_letter(_key: str, value: str) -> tuple[str | None, str | None]:
    return (value[0] or None, value[1:] or None)


def test_an_update_becomes_one_record_when_both_sides_map_to_one_key(site, changes):
    operator = site.build(table_group_by, TableGroupBy(name="g", mapper=by_first_letter))
    operator.process(changes(("a", "x1", None, 1), ("a", "x2", "x1", 2), ("a", None, "x2", 3)))
    assert site.forwarded() == [("x", Change("1", None), 1), ("x", Change("2", "1"), 2), ("x", Change(None, "2"), 3)]


def test_the_removal_comes_first_when_the_sides_map_to_different_keys(site, changes):
    operator = site.build(table_group_by, TableGroupBy(name="g", mapper=by_first_letter))
    batch = changes(("a", "y2", "x1", 1), ("b", "z3", "y3", 2))
    batch.headers = [[("h", b"1")], [("h", b"2")]]
    operator.process(batch)
    assert site.out[0].headers == [[("h", b"1")]] * 2 + [[("h", b"2")]] * 2
    assert site.out[0].offsets == [0, 0, 1, 1]
    assert site.forwarded() == [
        *[("x", Change(None, "1"), 1), ("y", Change("2", None), 1)],
        *[("y", Change(None, "3"), 2), ("z", Change("3", None), 2)],
    ]


def test_a_pair_without_key_or_value_is_left_out(site, changes):
    pairs = {"no key": (None, 1), "no value": ("k", None), "both": ("k", 2)}
    operator = site.build(table_group_by, TableGroupBy(name="g", mapper=lambda _, v: pairs[v]))
    operator.process(changes(("a", "no key", "both", 1), ("a", "both", "no value", 2), ("a", "no key", "no value", 3)))
    assert site.forwarded() == [("k", Change(None, 2), 1), ("k", Change(2, None), 2)]


def test_nothing_is_forwarded_when_an_update_is_from_nothing_to_nothing(site, changes):
    site.build(table_group_by, TableGroupBy(name="g", mapper=by_first_letter)).process(changes(("a", None, None, 1)))
    assert site.out == []


def test_updates_that_are_not_the_latest_are_left_out_when_the_table_is_versioned(site, changes):
    batch = changes(("a", "x1", None, 1), ("a", "x2", None, 2))
    batch.latest = [True, False]
    site.build(table_group_by, TableGroupBy(name="g", mapper=by_first_letter)).process(batch)
    assert site.forwarded() == [("x", Change("1", None), 1)]


def test_grouping_reports_the_row_when_its_function_raises_or_it_has_no_key(skipping, changes):
    operator = skipping.build(table_group_by, TableGroupBy(name="g", mapper=by_first_letter))
    operator.process(changes(("a", "", None, 1), (None, "x1", None, 2), ("b", "x1", None, 3)))
    assert [failure[1:3] for failure in skipping.failures] == [("g", "a"), ("g", None)]
    assert skipping.forwarded() == [("x", Change("1", None), 3)]
