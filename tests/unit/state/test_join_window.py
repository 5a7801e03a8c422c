from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.errors import DeserializationError, SerdeError
from streamlib.serdes import JSON, STRING
from streamlib.state.base import Engine
from streamlib.state.join_window import JoinWindowStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from streamlib.state.spec import StoreSpec
from streamlib.state.window import window_store_key

MINUTE = 60_000
ROOM = 10**9
NUMBERS = list(range(1, 100, 2))
KEYS = st.sampled_from([b"a", b"b", b"ab", b"a" + bytes(12)])
ROWS = st.lists(
    st.tuples(KEYS, st.one_of(st.integers(0, 4 * MINUTE), st.integers(0, 30)), st.sampled_from(["v", "w", None])),
    min_size=1,
    max_size=6,
)


SPEC = StoreSpec(
    "s", "window", STRING, STRING, timestamped=False, retain_duplicates=True, retention_ms=40, window_size_ms=20
)


def join_store(
    engine: Engine, changelog: Any = None, *, memory_bytes: int = 0, **settings: Any
) -> JoinWindowStore[Any]:
    return JoinWindowStore(replace(SPEC, **settings), engine, changelog, memory_bytes=memory_bytes)


def commit(store: JoinWindowStore[Any], engine: Engine) -> None:
    writes = store.pending()
    for table in writes:
        engine.create(table)
    engine.write(writes, {})
    store.applied()


def found(store: JoinWindowStore[Any], key: bytes, time: int, before_ms: int = 10, after_ms: int = 10) -> list[Any]:
    (matches,) = store.matches([key], [time], before_ms, after_ms)
    return [(at, store.value(row)) for at, row in matches]


class Model:
    """Every row there ever was; what can be read follows from the times alone."""

    def __init__(self, retention_ms: int) -> None:
        self.rows: list[tuple[bytes, int, str]] = []
        self.observed = -1
        self._retention_ms = retention_ms

    def put(self, key: bytes, time: int, value: str | None) -> None:
        if value is not None:
            self.observed = max(self.observed, time)
            self.rows.append((key, time, value))

    def found(self, key: bytes, time: int) -> list[tuple[int, str]]:
        first = max(0, time - 10, self.observed - self._retention_ms + 1)
        own = [(at, value) for other, at, value in self.rows if other == key and first <= at <= time + 10]
        return sorted(own, key=lambda match: match[0])


@settings(max_examples=150, deadline=None)
@given(
    batches=st.lists(st.tuples(ROWS, st.booleans()), max_size=8),
    probes=st.lists(st.tuples(KEYS, st.integers(0, 4 * MINUTE)), max_size=6),
    memory_bytes=st.sampled_from([0, 1_500, 3_000, 5_000, ROOM]),
    retention_ms=st.sampled_from([0, 40, 3 * MINUTE]),
)
def test_matches_are_those_of_a_model_whatever_is_in_memory(
    batches: list[tuple[list[tuple[bytes, int, str | None]], bool]],
    probes: list[tuple[bytes, int]],
    memory_bytes: int,
    retention_ms: int,
) -> None:
    engine, model = MemoryEngine(), Model(retention_ms)
    store = join_store(engine, retention_ms=retention_ms, memory_bytes=memory_bytes)
    for rows, commits in batches:
        store.put_many([row[0] for row in rows], [row[2] for row in rows], [row[1] for row in rows])
        for row in rows:
            model.put(*row)
        if commits:
            commit(store, engine)
        for key, time in probes + [(row[0], row[1]) for row in rows]:
            assert found(store, key, time) == model.found(key, time)
    store.read_ahead()
    for key, time, _ in model.rows:
        assert found(store, key, time) == model.found(key, time)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, more=ROWS, memory_bytes=st.sampled_from([0, 3_000, ROOM]), exact_expiry=st.booleans())
def test_a_restored_store_goes_on_as_if_nothing_had_happened(
    rows: list[tuple[bytes, int, str | None]],
    more: list[tuple[bytes, int, str | None]],
    memory_bytes: int,
    exact_expiry: bool,
) -> None:
    kept: list[Any] = []

    class Log:
        def append(self, keys: Any, values: Any, timestamps: Any, headers: Any = None) -> None:
            kept.extend(zip(keys, values, timestamps, strict=True))

    how: dict[str, Any] = {"memory_bytes": memory_bytes, "exact_expiry": exact_expiry}
    store, other = join_store(MemoryEngine(), Log(), **how), join_store(MemoryEngine(), **how)
    store.put_many([row[0] for row in rows], [row[2] for row in rows], [row[1] for row in rows])
    other.restore([row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept])
    assert other.expired == 0
    for each in (store, other):
        each.put_many([row[0] for row in more], [row[2] for row in more], [row[1] for row in more])
    assert list(other.scan()) == list(store.scan())
    assert other.highest_timestamp == store.highest_timestamp


def test_every_record_is_a_row_when_key_and_time_are_equal(engine: Engine, changelog) -> None:
    store = join_store(engine, changelog)
    store.put_many([b"k", b"k"], ["A", "A"], [5, 5])
    commit(store, engine)
    store.put_many([b"k"], ["B"], [5])
    assert found(store, b"k", 5) == [(5, "A"), (5, "A"), (5, "B")]
    assert changelog.keys == [window_store_key(b"k", 5, number) for number in (1, 2, 3)]


def test_a_null_takes_a_number_in_the_changelog_but_is_no_row(engine: Engine, changelog) -> None:
    store = join_store(engine, changelog)
    store.put_many([b"k", b"k", b"k"], ["A", None, "B"], [1, 900, 2], [[("h", b"1")], [], []])
    assert [row[:2] for row in store.scan()] == [
        (window_store_key(b"k", 1, 1), "A"),
        (window_store_key(b"k", 2, 3), "B"),
    ]
    assert changelog.records[1] == (window_store_key(b"k", 900, 2), None, 900)
    assert changelog.headers == [[("h", b"1")], [], []]
    assert store.highest_timestamp == 900


@pytest.mark.parametrize("memory_bytes", [0, ROOM])
def test_numbers_and_time_go_on_when_the_store_is_opened_again(
    open_rocks: Callable[[], RocksEngine], changelog, memory_bytes: int
) -> None:
    engine = open_rocks()
    store = join_store(engine, memory_bytes=memory_bytes)
    store.put_many([b"k", b"k", b"x"], ["A", "B", None], [5, 5, 99])
    commit(store, engine)
    engine = open_rocks()
    store = join_store(engine, changelog, memory_bytes=memory_bytes)
    assert store.highest_timestamp == 99
    store.read_ahead()
    store.put_many([b"k"], ["C"], [5])
    assert changelog.keys == [window_store_key(b"k", 5, 4)]
    assert found(store, b"k", 5) == [(5, "A"), (5, "B"), (5, "C")]


def test_many_rows_are_read_ahead_in_steps_and_once(open_rocks: Callable[[], RocksEngine]) -> None:
    engine, rows = open_rocks(), 5_000
    store = join_store(engine, memory_bytes=ROOM)
    store.put_many([b"%d" % row for row in range(rows)], ["v"] * rows, [5] * rows)
    commit(store, engine)
    store = join_store(open_rocks(), memory_bytes=ROOM)
    assert len(list(store.reading_ahead())) == 6  # read, then kept, in three parts each
    assert list(store.reading_ahead()) == []
    assert found(store, b"4321", 5) == [(5, "v")]


@settings(max_examples=200, deadline=None)
@given(
    batches=st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=4),
    probes=st.lists(st.tuples(KEYS, st.integers(0, 4 * MINUTE), st.integers(0, 6)), max_size=6),
    memory_bytes=st.sampled_from([0, 1_500, 3_000, 5_000, ROOM]),
    exact_expiry=st.booleans(),
    retention_ms=st.sampled_from([0, 40, 3 * MINUTE]),
)
def test_staged_rows_are_those_of_single_puts_for_probes_between_them(
    batches: list[tuple[list[tuple[bytes, int, str | None]], bool]],
    probes: list[tuple[bytes, int, int]],
    memory_bytes: int,
    exact_expiry: bool,
    retention_ms: int,
) -> None:
    how: dict[str, Any] = {"exact_expiry": exact_expiry, "retention_ms": retention_ms}
    engines = MemoryEngine(), MemoryEngine()
    staged, single = join_store(engines[0], memory_bytes=memory_bytes, **how), join_store(engines[1], **how)
    for rows, commits in batches:
        keys, values, times = [row[0] for row in rows], [row[2] for row in rows], [row[1] for row in rows]
        staged.stage(keys, values, times, numbers=NUMBERS[: len(rows)])
        asked = sorted([*probes, *((key, time, 3) for key, time, _ in rows)], key=lambda probe: probe[2])
        numbers = [2 * place for *_, place in asked]
        together = staged.matches([key for key, *_ in asked], [time for _, time, _ in asked], 10, 10, numbers)
        without = staged.matches([key for key, *_ in asked], [time for _, time, _ in asked], 10, 10)
        assert without == [single.matches([key], [time], 10, 10)[0] for key, time, _ in asked]
        put = 0
        for (key, time, place), matches in zip(asked, together, strict=True):
            for row_key, row_time, value in rows[put:place]:
                single.put_many([row_key], [value], [row_time])
            put = max(put, place)
            assert matches == single.matches([key], [time], 10, 10)[0]
        for row_key, row_time, value in rows[put:]:
            single.put_many([row_key], [value], [row_time])
        staged.settle()
        if commits:
            commit(staged, engines[0])
            commit(single, engines[1])
        assert (staged.expired, staged.highest_timestamp) == (single.expired, single.highest_timestamp)
        assert list(staged.scan()) == list(single.scan())


def test_uncommitted_rows_are_gone_when_work_is_dropped(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    store = join_store(engine, memory_bytes=ROOM)
    store.put_many([b"k"], ["A"], [5])
    commit(store, engine)
    store.put_many([b"k", b"k"], ["B", "C"], [6, 7])
    assert store.pending_rows == 2
    store.discard()
    assert found(store, b"k", 5) == [(5, "A")]
    assert (store.pending_rows, store.highest_timestamp) == (0, 5)


def test_a_late_row_expires_with_its_segment_or_on_its_own() -> None:
    for exact_expiry, times, expired in ((False, [MINUTE - 1, MINUTE + 39, 0], 0), (False, [2 * MINUTE + 40, 0], 1)):
        store = join_store(MemoryEngine(), exact_expiry=exact_expiry)
        store.put_many([b"k"] * len(times), ["A"] * len(times), times)
        assert store.expired == expired
    store = join_store(MemoryEngine(), exact_expiry=True)
    store.put_many([b"k", b"k", b"k"], ["A", "B", "C"], [50, 10, 11])
    assert (store.expired, found(store, b"k", 11)) == (1, [(11, "C")])
    store.put_many([b"k", b"k"], [None, None], [10, 60])
    store.put_many([b"k"], ["D"], [20])
    assert store.expired == 3
    assert found(store, b"k", 20) == []


def test_expired_segments_leave_the_engine_when_time_goes_on(engine: Engine) -> None:
    store = join_store(engine, memory_bytes=ROOM)
    for time in range(0, 10 * MINUTE, MINUTE):
        store.put_many([b"k"], ["A"], [time])
        commit(store, engine)
    assert len(engine.tables()) == 2


def test_no_row_is_found_for_no_key_or_a_window_before_time_begins(engine: Engine) -> None:
    store = join_store(engine, memory_bytes=ROOM)
    store.put_many([b"k"], ["A"], [0])
    assert store.matches([None, b"k", b"k"], [0, 0, 30], 10, -5) == [[], [(0, b"A")], []]


def test_the_mend_is_named_when_a_row_or_value_is_refused() -> None:
    store = join_store(MemoryEngine(), value_serde=JSON)
    with pytest.raises(DeserializationError, match="needs a new store name"):
        store.value(b"{")
    with pytest.raises(SerdeError, match="store 's'"):
        store.put_many([b"k"], [object()], [1])
    assert store.pending_rows == 0
