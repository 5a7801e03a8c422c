"""Rows of versioned segments: the bytes of the Java library, and a model."""

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.state.version_rows import (
    Found,
    find,
    first_time,
    new_row,
    next_time,
    versions,
    with_earliest,
    with_inserted,
    with_latest,
    with_replaced,
)

payloads = st.none() | st.binary(max_size=3)


def listed(row: bytes) -> list[tuple[int, int, bytes | None]]:
    found = list(versions(row))
    assert [each.place for each in found] == list(range(len(found)))
    return [(each.valid_from, each.valid_to, each.value) for each in found]


# From the Kafka class RocksDBVersionedStoreSegmentValueFormatter, each made from the one before.
def test_rows_are_as_the_java_library_writes_them_when_they_are_changed() -> None:
    row = new_row(10, 20, b"a")
    assert row.hex() == "0000000000000014000000000000000a000000000000000a0000000161"
    row = with_latest(row, 20, 30, b"bb")
    assert row.hex() == ("000000000000001e000000000000000a000000000000001400000002000000000000000a00000001616262")
    row = with_latest(row, 30, 40, None)
    assert row.hex() == (
        "0000000000000028000000000000000a000000000000001effffffff000000000000001400000002000000000000000a00000001616262"
    )
    row = with_earliest(row, 5, b"e")
    assert row.hex() == (
        "00000000000000280000000000000005000000000000001effffffff000000000000001400000002000000000000000a000000010000"
        "0000000000050000000165616262"
    )
    row = with_inserted(row, find(row, 15), 15, b"m")
    assert row.hex() == (
        "00000000000000280000000000000005000000000000001effffffff000000000000001400000002000000000000000f000000010000"
        "00000000000a0000000100000000000000050000000165616d6262"
    )
    row = with_replaced(row, find(row, 20), 20, b"BB")
    assert row.hex() == (
        "00000000000000280000000000000005000000000000001effffffff000000000000001400000002000000000000000f000000010000"
        "00000000000a0000000100000000000000050000000165616d4242"
    )
    assert new_row(7, 9, None).hex() == "000000000000000900000000000000070000000000000007ffffffff"


@pytest.mark.parametrize(
    ("time", "found"),
    [
        (5, Found(2, 5, 10, b"a")),
        (9, Found(2, 5, 10, b"a")),
        (10, Found(1, 10, 20, None)),
        (20, Found(0, 20, 30, b"")),
        (29, Found(0, 20, 30, b"")),
    ],
)
def test_the_version_of_a_time_is_found_when_the_row_has_one(time: int, found: Found) -> None:
    row = with_latest(with_latest(new_row(5, 10, b"a"), 10, 20, None), 20, 30, b"")
    assert find(row, time) == found


def test_nothing_is_found_when_the_row_begins_later() -> None:
    with pytest.raises(ValueError, match="no version at 4 in a row that begins at 5"):
        find(new_row(5, 10, b"a"), 4)


def test_a_gap_becomes_a_deletion_when_a_newer_version_begins_after_it() -> None:
    assert listed(with_latest(new_row(5, 10, b"a"), 20, 30, b"b")) == [(20, 30, b"b"), (10, 20, None), (5, 10, b"a")]
    assert listed(with_latest(new_row(10, 10, None), 20, 30, b"b")) == [(20, 30, b"b"), (10, 20, None)]
    assert listed(with_latest(new_row(10, 10, None), 10, 30, b"b")) == [(10, 30, b"b")]


def test_an_older_version_ends_where_the_deletion_was_when_the_row_has_nothing_else() -> None:
    assert listed(with_earliest(new_row(10, 10, None), 4, b"a")) == [(4, 10, b"a")]


@pytest.mark.parametrize(
    ("valid_from", "left"),
    [
        (1, []),
        (5, []),
        (7, [(5, 7, b"a")]),
        (10, [(5, 10, b"a")]),
        (15, [(10, 15, b"bb"), (5, 10, b"a")]),
        (20, [(10, 20, b"bb"), (5, 10, b"a")]),
        (25, [(20, 25, None), (10, 20, b"bb"), (5, 10, b"a")]),
    ],
)
def test_newer_versions_give_way_when_a_crash_has_left_them(
    valid_from: int, left: list[tuple[int, int, bytes | None]]
) -> None:
    row = with_latest(with_latest(new_row(5, 10, b"a"), 10, 20, b"bb"), 20, 30, None)
    assert listed(with_latest(row, valid_from, 40, b"new")) == [(valid_from, 40, b"new"), *left]


@given(
    st.dictionaries(st.integers(0, 30), payloads, min_size=1),
    st.lists(st.tuples(st.integers(0, 30), payloads), max_size=10),
)
def test_a_row_has_what_was_put_last_when_versions_come_in_any_order(
    first: dict[int, bytes | None], more: list[tuple[int, bytes | None]]
) -> None:
    model = dict(sorted(first.items()))
    times = [*model, 31]
    row = b""
    for valid_from, valid_to in pairwise(times):
        value = model[valid_from]
        row = with_latest(row, valid_from, valid_to, value) if row else new_row(valid_from, valid_to, value)
    for time, value in more:
        model[time] = value
        if time < first_time(row):
            row = with_earliest(row, time, value)
        else:
            found = find(row, time)
            row = (with_replaced if found.valid_from == time else with_inserted)(row, found, time, value)
    times = [*sorted(model), 31]
    assert listed(row) == [(time, times[place + 1], model[time]) for place, time in enumerate(times[:-1])][::-1]
    assert (first_time(row), next_time(row)) == (times[0], 31)
    for time in range(times[0], 31):
        assert find(row, time).value == model[times[bisect_right(times, time) - 1]]
