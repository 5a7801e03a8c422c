import pytest

from streamlib.operators.table_source import table_source
from streamlib.topology.nodes import TableSource

MB = 1 << 20


def node(store: str | None = "t", *, send_old: bool = False) -> TableSource:
    return TableSource(name="table", store=store, send_old=send_old)


def test_updates_pass_without_old_values_when_the_table_has_no_store(site, records):
    operator = site.build(table_source, node(None))
    operator.process(records(("a", 1, 10), ("a", None, 20)))
    assert site.forwarded() == [("a", 1, 10), ("a", None, 20)]


def test_null_keys_are_dropped_and_counted(site, spec, records):
    for store in (None, "t"):
        operator = site.build(table_source, node(store), spec=spec("t"))
        operator.process(records((None, 1, 10), ("a", 2, 20), (None, None, 30)))
        assert site.forwarded() == [("a", 2, 20)]
        assert [batch.offsets for batch in site.out] == []
    operator.process(records((None, 1, 10)))
    assert site.out == []
    assert site.dropped(node="table", reason="null-key") == 5


def test_each_update_carries_the_value_before_it_when_old_values_are_sent(site, spec, records):
    operator = site.build(table_source, node(send_old=True), spec=spec("t"))
    operator.process(records(("a", 1, 10), ("b", 2, 11), ("a", 3, 12), ("a", None, 13), ("a", 4, 14)))
    operator.process(records(("a", 5, 15), ("c", None, 16)))
    assert site.forwarded() == [
        *[("a", 1, 10, None), ("b", 2, 11, None), ("a", 3, 12, 1), ("a", None, 13, 3), ("a", 4, 14, None)],
        *[("a", 5, 15, 4), ("c", None, 16, None)],
    ]
    assert site.stored("t") == {b"a": (5, 15), b"b": (2, 11)}


def test_an_older_update_overwrites_when_it_comes_later(site, spec, records):
    operator = site.build(table_source, node(), spec=spec("t"))
    operator.process(records(("a", 1, 10), ("a", 2, 5)))
    assert site.stored("t") == {b"a": (2, 5)}
    assert site.forwarded() == [("a", 1, 10), ("a", 2, 5)]
    assert [row[2] for row in site.changelog.rows] == [10, 5]


@pytest.mark.parametrize("send_old", [False, True])
def test_only_the_last_update_of_each_key_comes_out_in_order_of_last_update_when_cached(site, spec, records, send_old):
    operator = site.build(table_source, node(send_old=send_old), spec=spec("t"), cache_bytes=MB)
    operator.process(records(("a", 1, 10), ("b", 2, 11), ("a", 3, 12), headers=[[("h", b"1")], [], [("h", b"3")]]))
    operator.process(records(("c", 4, 13), ("gone", 5, 13), ("gone", None, 14)))
    assert site.out == []
    assert site.stored("t") == {}
    assert operator.flush() == 0
    assert site.out[0].headers == [(), [("h", b"3")], ()] or site.out[0].headers == [[], [("h", b"3")], ()]
    assert [row[:3] for row in site.forwarded()] == [("b", 2, 11), ("a", 3, 12), ("c", 4, 13)]
    assert site.stored("t") == {b"a": (3, 12), b"b": (2, 11), b"c": (4, 13)}
    operator.process(records(("a", 9, 20), ("a", 10, 21), ("b", None, 22)))
    operator.flush()
    expected = [("a", 10, 21, 3), ("b", None, 22, 2)]
    assert site.forwarded() == (expected if send_old else [row[:3] for row in expected])


def test_a_flush_stops_after_so_many_rows_when_told(site, spec, records):
    operator = site.build(table_source, node(), spec=spec("t"), cache_bytes=MB)
    operator.process(records(("a", 1, 10), ("b", 2, 11), ("c", 3, 12)))
    assert operator.flush(2) == 1
    assert site.forwarded() == [("a", 1, 10), ("b", 2, 11)]
    assert operator.flush(2) == 0
    assert site.forwarded() == [("c", 3, 12)]


def test_the_oldest_updates_come_out_when_the_cache_is_full(site, spec, records):
    operator = site.build(table_source, node(), spec=spec("t"), cache_bytes=20_000)
    rows = [(f"k{number:04}", number, number) for number in range(1000)]
    for start in range(0, 1000, 10):
        operator.process(records(*rows[start : start + 10]))
    early = site.forwarded()
    assert 900 < len(early) < 1000
    operator.flush()
    assert early + site.forwarded() == rows
