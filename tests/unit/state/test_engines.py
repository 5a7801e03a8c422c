"""What every engine does alike."""

from collections.abc import Callable, Iterator

import pytest

from streamlib.errors import StateStoreError
from streamlib.state.base import Engine

ROWS = {b"a": b"1", b"b": b"2", b"b\x00": b"3", b"\xff": b"4", b"": b"empty key", b"c": b""}


@pytest.fixture
def table(engine: Engine) -> Engine:
    engine.create("t")
    engine.write({"t": ROWS}, {})
    return engine


def test_rows_are_found_by_key_when_written(table: Engine) -> None:
    assert table.get_many("t", [b"b", b"nothing", b"", b"c"]) == [b"2", None, b"empty key", b""]
    assert table.get("t", b"\xff") == b"4"
    assert table.get("t", b"bb") is None


def test_rows_are_replaced_and_deleted_when_written_again(table: Engine) -> None:
    table.write({"t": {b"a": b"new", b"b": None, b"never there": None}}, {})
    assert table.get_many("t", [b"a", b"b", b"never there"]) == [b"new", None, None]
    assert b"b" not in dict(table.scan("t", None, None))


def test_scan_is_in_unsigned_byte_order_when_keys_have_high_bytes(table: Engine) -> None:
    assert [key for key, _ in table.scan("t", None, None)] == [b"", b"a", b"b", b"b\x00", b"c", b"\xff"]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (b"a", b"b", [b"a"]),
        (b"b", b"c", [b"b", b"b\x00"]),
        (None, b"b", [b"", b"a"]),
        (b"b\x00", None, [b"b\x00", b"c", b"\xff"]),
        (b"aa", b"ab", []),
        (b"c", b"a", []),
        (b"a", b"a", []),
    ],
)
def test_scan_gives_its_half_open_range_in_both_directions(
    table: Engine, start: bytes | None, end: bytes | None, expected: list[bytes]
) -> None:
    assert list(table.scan("t", start, end)) == [(key, ROWS[key]) for key in expected]
    assert list(table.scan("t", start, end, reverse=True)) == [(key, ROWS[key]) for key in reversed(expected)]


def test_scan_shows_the_moment_of_its_call_when_rows_change_before_it_is_read(table: Engine) -> None:
    scan = table.scan("t", b"a", None)
    table.write({"t": {b"a": b"changed", b"b": None, b"d": b"new"}}, {})
    assert list(scan) == [(key, ROWS[key]) for key in (b"a", b"b", b"b\x00", b"c", b"\xff")]
    assert dict(table.scan("t", b"a", b"e")) == {b"a": b"changed", b"b\x00": b"3", b"c": b"", b"d": b"new"}


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_gives_every_row_once_when_the_table_is_longer_than_its_reads(engine: Engine, reverse: bool) -> None:
    engine.create("t")
    rows: dict[bytes, bytes | None] = {number.to_bytes(4, "big"): bytes([number % 256]) for number in range(3000)}
    engine.write({"t": rows}, {})
    found = list(engine.scan("t", (100).to_bytes(4, "big"), (2900).to_bytes(4, "big"), reverse=reverse))
    expected = [(key, row) for key, row in rows.items() if b"\0\0\0\x64" <= key < (2900).to_bytes(4, "big")]
    assert found == (expected[::-1] if reverse else expected)


def test_tables_are_apart_when_they_hold_equal_keys(engine: Engine) -> None:
    engine.create("one")
    engine.create("default")
    engine.write({"one": {b"k": b"1"}, "default": {b"k": b"2"}}, {})
    assert (engine.get("one", b"k"), engine.get("default", b"k")) == (b"1", b"2")
    assert sorted(engine.tables()) == ["default", "one"]


def test_create_keeps_the_rows_when_the_table_exists(table: Engine) -> None:
    table.create("t")
    assert table.get("t", b"a") == b"1"


def test_dropped_table_is_empty_when_created_again(table: Engine) -> None:
    table.drop("t")
    table.drop("t")
    assert table.tables() == []
    table.create("t")
    assert list(table.scan("t", None, None)) == []


def test_scan_goes_on_when_its_table_is_dropped(table: Engine) -> None:
    scan = table.scan("t", None, None)
    table.drop("t")
    assert len(list(scan)) == len(ROWS)


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.get("gone", b"k"),
        lambda engine: engine.get_many("gone", [b"k"]),
        lambda engine: engine.scan("gone", None, None),
        lambda engine: engine.write({"gone": {b"k": b"v"}}, {}),
    ],
)
def test_error_names_the_table_when_there_is_none(table: Engine, use: Callable[[Engine], object]) -> None:
    with pytest.raises(StateStoreError, match='no table "gone"'):
        use(table)


def test_nothing_is_written_when_one_of_the_tables_is_unknown(table: Engine) -> None:
    with pytest.raises(StateStoreError):
        table.write({"t": {b"a": b"changed"}, "gone": {b"k": b"v"}}, {"s": 5})
    assert table.get("t", b"a") == b"1"
    assert table.offsets() == {}


def test_offsets_are_kept_per_store_when_written_with_rows_or_alone(table: Engine) -> None:
    table.write({"t": {b"a": b"x"}}, {"s": 7, "größe": 2**40})
    table.write({}, {"s": 9})
    assert table.offsets() == {"s": 9, "größe": 2**40}


def chunk_sizes(chunks: Iterator[int], engine: Engine) -> list[tuple[int, dict[str, int]]]:
    return [(rows, engine.offsets()) for rows in chunks]


def test_offsets_come_with_the_last_chunk_when_the_batch_is_large(engine: Engine) -> None:
    engine.create("a")
    engine.create("b")
    first: dict[bytes, bytes | None] = {number.to_bytes(4, "big"): b"x" for number in range(25_000)}
    second: dict[bytes, bytes | None] = {number.to_bytes(4, "big"): b"y" for number in range(3_000)}
    chunks = chunk_sizes(engine.write_chunks({"a": first, "b": second}, {"s": 1}), engine)
    assert sum(rows for rows, _ in chunks) == 28_000
    assert [offsets for _, offsets in chunks] == [{}] * (len(chunks) - 1) + [{"s": 1}]
    assert dict(engine.scan("a", None, None)) == first
    assert dict(engine.scan("b", None, None)) == second


def test_deleted_rows_stay_away_when_most_of_a_table_is_deleted(engine: Engine) -> None:
    engine.create("t")
    keys = [number.to_bytes(4, "big") for number in range(5000)]
    engine.write({"t": dict.fromkeys(keys, b"v")}, {})
    assert len(list(engine.scan("t", None, None))) == 5000
    engine.write({"t": dict.fromkeys(keys[10:], None)}, {})
    engine.write({"t": {keys[20]: b"again"}}, {})
    assert list(engine.scan("t", None, None)) == [*((key, b"v") for key in keys[:10]), (keys[20], b"again")]
    assert engine.get("t", keys[30]) is None


def test_ranges_are_read_together_when_many_are_asked_for(table: Engine) -> None:
    ranges = [(b"b", b"c"), (b"x", b"y"), (b"", b"\xff\xff"), (b"b", b"c")]
    assert table.scan_many("t", ranges) == [list(table.scan("t", start, end)) for start, end in ranges]
    assert table.scan_many("t", []) == []
    with pytest.raises(StateStoreError, match='no table "u"'):
        table.scan_many("u", ranges)
