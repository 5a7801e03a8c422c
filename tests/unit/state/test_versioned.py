"""The versioned store: what is valid when, what is dropped, what survives; and a model of many puts in any order."""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamlib.errors import SerdeError
from streamlib.serdes.primitives import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from streamlib.state.version_segments import segment_interval
from streamlib.state.versioned import IS_LATEST, NOT_PUT, Version, VersionedStore

HISTORY_MS = 6_000  # so that a segment is 2,000 ms long


def commit(store: VersionedStore[Any], engine: Engine) -> None:
    engine.write(store.pending(), {})
    store.applied()


@pytest.fixture(params=[0, 1_000_000], ids=["uncached", "cached"])
def store(request: pytest.FixtureRequest, engine: Engine, changelog: Any) -> VersionedStore[str]:
    return VersionedStore("v", STRING, engine, changelog, history_ms=HISTORY_MS, cache_bytes=request.param)


@pytest.mark.parametrize(
    ("history_ms", "interval_ms"),
    [
        (0, 2_000),
        (6_000, 2_000),
        (60_000, 20_000),
        (60_001, 20_000),
        (300_000, 60_000),
        (300_001, 60_000),
        (3_600_000, 300_000),
        (3_600_001, 300_000),
        (86_400_000, 3_600_000),
    ],
)
def test_segments_are_as_long_as_in_the_java_library(history_ms: int, interval_ms: int) -> None:
    assert segment_interval(history_ms) == interval_ms


def test_a_put_tells_until_when_a_version_is_valid(store: VersionedStore[str]) -> None:
    assert store.put(b"k", "b", 20) == IS_LATEST
    assert store.put(b"k", "a", 10) == 20
    assert store.put(b"k", "B", 20) == IS_LATEST
    assert store.put(b"k", "A", 10) == 20
    assert store.put(b"k", None, 30) == IS_LATEST
    assert store.put(b"k", "b2", 25) == 30
    assert store.put(b"k", None, 15) == 20
    assert store.put(b"k", None, 35) == IS_LATEST
    assert store.get(b"k") is None
    assert store.versions(b"k") == [Version("b2", 25, 30), Version("B", 20, 25), Version("A", 10, 15)]


@pytest.mark.parametrize("committed", [False, True])
def test_the_version_of_a_time_is_found_when_later_ones_replaced_it(
    store: VersionedStore[str], engine: Engine, committed: bool
) -> None:
    store.put_many([b"k", b"k", b"k", b"q"], ["a", "b", None, "z"], [1_000, 3_000, 5_000, 0])
    if committed:
        commit(store, engine)
    times = [999, 1_000, 2_999, 3_000, 4_999, 5_000, 9_000]
    found = ["a" if 1_000 <= time < 3_000 else "b" if 3_000 <= time < 5_000 else None for time in times]
    rows = store.get_many_as_of([b"k"] * len(times), times)
    assert [row and row[0] for row in rows] == found
    assert store.get_many_as_of([b"q", b"missing"], [0, 0]) == [("z", 0), None]
    assert store.get_many([b"k", b"q"]) == [None, ("z", 0)]
    assert store.stored_keys() == [b"k", b"q"]


def test_a_version_that_is_too_old_is_counted_and_logged_but_not_put(
    store: VersionedStore[str], changelog: Any
) -> None:
    store.put(b"k", "new", 10_000)
    assert store.put(b"k", "on the edge", 4_000) == 10_000
    assert store.put(b"q", "too old", 3_999) == NOT_PUT
    assert store.put(b"q", None, 3_999) == NOT_PUT
    assert (store.expired, store.get(b"q"), store.observed_stream_time) == (2, None, 10_000)
    assert changelog.records[-2:] == [(b"q", b"too old", 3_999), (b"q", None, 3_999)]


def test_history_ends_but_the_latest_version_stays_when_time_moves_on(store: VersionedStore[str]) -> None:
    store.put_many([b"k", b"k", b"q"], ["a", "b", "z"], [0, 1_000, 100_000])
    assert store.get_as_of(b"k", 500) is None
    assert store.get_as_of(b"k", 1_000) == ("b", 1_000)
    assert store.get_as_of(b"k", 99_000) == ("b", 1_000)
    assert store.versions(b"k") == [Version("b", 1_000, None)]


def test_segments_are_dropped_whole_when_they_have_expired(store: VersionedStore[str], engine: Engine) -> None:
    store.put_many([b"k", b"k", b"k"], ["a", "b", "c"], [0, 1_000, 3_000])
    commit(store, engine)
    assert sorted(engine.tables()) == ["v", "v/2000/0", "v/2000/1", "v/time"]
    store.put(b"k", "d", 9_000)
    commit(store, engine)
    assert sorted(engine.tables()) == ["v", "v/2000/1", "v/2000/4", "v/time"]


def test_a_segment_is_dropped_when_it_expires_while_its_rows_are_written(
    store: VersionedStore[str], engine: Engine
) -> None:
    store.put_many([b"k", b"k"], ["a", "b"], [0, 1_000])
    writes = store.pending()
    store.put(b"k", "c", 20_000)
    engine.write(writes, {})
    store.applied()
    assert "v/2000/0" in engine.tables()
    commit(store, engine)
    assert sorted(engine.tables()) == ["v", "v/2000/10", "v/time"]


def test_a_deletion_gives_what_was_valid_then(store: VersionedStore[str]) -> None:
    store.put_many([b"k", b"k"], ["a", "b"], [1_000, 3_000])
    assert store.delete(b"k", 2_000) == ("a", 1_000)
    assert store.get_as_of(b"k", 2_500) is None
    assert store.delete(b"k", 4_000) == ("b", 3_000)
    assert store.get(b"k") is None
    assert store.delete(b"k", 4_500) is None
    store.put(b"q", "z", 20_000)
    assert (store.delete(b"k", 1_500), store.expired) == (None, 1)


def test_a_deletion_at_the_time_of_the_latest_version_undoes_it(store: VersionedStore[str]) -> None:
    store.put_many([b"k", b"k"], ["a", "b"], [10, 20])
    assert store.put(b"k", None, 20) == IS_LATEST
    assert store.versions(b"k") == [Version("a", 10, 20)]
    assert store.put(b"k", "between", 15) == 20
    # As in the Java library, nothing is left of a key that had no other version.
    store.put_many([b"q", b"q"], ["z", None], [20, 20])
    assert store.put(b"q", "older", 10) == IS_LATEST
    assert store.versions(b"q") == [Version("older", 10, None)]


def test_the_changelog_has_plain_values_at_the_time_of_their_versions(
    store: VersionedStore[str], changelog: Any
) -> None:
    store.put_many([b"k", b"k", b"k"], ["b", "a", None], [20, 10, 30])
    assert changelog.records == [(b"k", b"b", 20), (b"k", b"a", 10), (b"k", None, 30)]


def test_nothing_is_put_when_the_serde_refuses_a_value(engine: Engine, changelog: Any) -> None:
    store = VersionedStore("v", INT64, engine, changelog, history_ms=HISTORY_MS)
    with pytest.raises(SerdeError, match=r"store 'v': the value for key b'k'"):
        store.put_versions([b"a", b"k"], [1, "text"], [1, 2])  # type: ignore[list-item]
    assert (store.stored_keys(), store.pending_rows, changelog.records) == ([], 0, [])


def test_uncommitted_versions_are_forgotten_when_work_is_discarded(store: VersionedStore[str], engine: Engine) -> None:
    store.put_many([b"k", b"k"], ["a", "b"], [1_000, 2_000])
    commit(store, engine)
    store.put_many([b"k", b"q"], ["c", "z"], [50_000, 60_000])
    assert store.pending_rows > 0
    store.discard()
    assert (store.pending_rows, store.observed_stream_time) == (0, 2_000)
    assert store.versions(b"k") == [Version("b", 2_000, None), Version("a", 1_000, 2_000)]


def test_everything_is_there_when_the_store_is_opened_again(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    store = VersionedStore("v", STRING, engine, history_ms=HISTORY_MS)
    store.put_many([b"k", b"k", b"", b"q"], ["a", "b", "empty key", None], [1_000, 3_000, 9_000, 9_000])
    commit(store, engine)
    before = {key: store.versions(key) for key in store.stored_keys()}
    again = VersionedStore("v", STRING, open_rocks(), history_ms=HISTORY_MS)
    assert {key: again.versions(key) for key in again.stored_keys()} == before
    assert again.observed_stream_time == 9_000
    assert again.put(b"k", "too old", 2_999) == NOT_PUT


def test_history_is_kept_when_the_store_gets_a_longer_one(engine: Engine) -> None:
    store = VersionedStore("v", STRING, engine, history_ms=HISTORY_MS)
    other = VersionedStore("vx", STRING, engine, history_ms=HISTORY_MS)
    for each in (store, other):
        times = [0, 500, 2_500, 4_100, 5_000]
        each.put_many([b"k"] * 5 + [b"q"] * 2, ["a", "b", None, "c", "d", "x", None], [*times, 3_000, 5_500])
        commit(each, engine)
    before = {key: store.versions(key) for key in store.stored_keys()}
    longer = VersionedStore("v", STRING, engine, history_ms=600_000)
    assert {key: longer.versions(key) for key in longer.stored_keys()} == before
    assert {table for table in engine.tables() if table.count("/") == 2} == {
        "v/60000/0",
        "vx/2000/1",
        "vx/2000/2",
        "vx/2000/0",
    }
    assert longer.put(b"k", "late", 1_000) == 2_500
    assert longer.get_as_of(b"k", 600) == ("b", 500)


@pytest.mark.parametrize("applied", ["nothing", "segments", "all"])
def test_the_store_is_whole_when_changes_are_put_again_after_a_crash(applied: str) -> None:
    keys, times = [b"k", b"k", b"k", b"q", b"k", b"q"], [1_000, 2_000, 4_500, 500, 3_000, 7_000]
    plain = [b"a", b"b", None, b"z", b"c", None]
    engine, whole = MemoryEngine(), VersionedStore("v", STRING, MemoryEngine(), history_ms=HISTORY_MS)
    store = VersionedStore("v", STRING, engine, history_ms=HISTORY_MS)
    for each in (store, whole):
        each.restore([b"k"], [b"first"], [100])
    commit(store, engine)
    store.restore(keys, plain, times)
    whole.restore(keys, plain, times)
    writes = dict(store.pending())
    cut = {"nothing": 0, "segments": len(writes) - 2, "all": len(writes)}[applied]
    engine.write(dict(list(writes.items())[:cut]), {})
    again = VersionedStore("v", STRING, engine, history_ms=HISTORY_MS)
    again.restore(keys, plain, times)
    assert {key: again.versions(key) for key in again.stored_keys()} == {
        key: whole.versions(key) for key in whole.stored_keys()
    }


KEYS = [b"", b"a", b"ab"]
puts = st.lists(
    st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 99), st.integers(0, 20).map(lambda half: half * 500)),
    max_size=30,
)


class Model:
    """Versions as a dict from time to value, for each key; nothing ever leaves it."""

    def __init__(self) -> None:
        self.values: dict[bytes, dict[int, int | None]] = {key: {} for key in KEYS}
        self.observed = -1

    def put(self, key: bytes, value: int | None, time: int) -> int:
        if time < self.observed - HISTORY_MS:
            return NOT_PUT
        self.observed = max(self.observed, time)
        self.values[key][time] = value
        return min((other for other in self.values[key] if other > time), default=IS_LATEST)

    def would_undo(self, key: bytes, value: int | None, time: int) -> bool:
        """Whether it deletes the latest version at its own time, which is tested apart."""
        values = self.values[key]
        return value is None and values.get(time) is not None and time == max(values)

    def as_of(self, key: bytes, time: int) -> tuple[int, int] | None:
        times = sorted(self.values[key])
        place = bisect_right(times, time)
        value = self.values[key][times[place - 1]] if place else None
        if value is None or (time < self.observed - HISTORY_MS and place < len(times)):
            return None
        return value, times[place - 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(batches=st.lists(puts, max_size=4), committing=st.booleans())
def test_any_time_shows_what_was_put_when_versions_come_in_any_order(
    batches: list[list[tuple[bytes, int | None, int]]], committing: bool
) -> None:
    model, engine = Model(), MemoryEngine()
    store = VersionedStore("v", INT64, engine, history_ms=HISTORY_MS)
    for batch in batches:
        rows, ends = [], []
        for row in batch:
            if not model.would_undo(*row):
                rows.append(row)
                ends.append(model.put(*row))
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
        assert store.put_versions(*columns) == ends
        if committing:
            commit(store, engine)
        times = [time for time in range(0, 10_500, 750) for _ in KEYS]
        keys = KEYS * (len(times) // len(KEYS))
        expected = [model.as_of(key, time) for key, time in zip(keys, times, strict=True)]
        assert store.get_many_as_of(keys, times) == expected
        assert store.get_many(KEYS) == [model.as_of(key, 1 << 60) for key in KEYS]
        assert [row[0] for row in store.scan()] == [key for key in KEYS if model.as_of(key, 1 << 60)]
