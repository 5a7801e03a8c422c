from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import DeserializationError, SerdeError
from streamlib.serdes.primitives import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from streamlib.state.session import SessionStore
from streamlib.state.session_keys import session_end, session_store_key, split_session_store_key

RETENTION_MS = 120_000  # so that a segment is 60,000 ms long
MINUTE_MS = 60_000


def commit(store: SessionStore[Any], engine: Engine) -> None:
    engine.write(store.pending(), {})
    store.applied()


def put(store: SessionStore[Any], key: bytes, start: int, end: int, value: Any, timestamp: int = 0) -> None:
    store.put_many([session_store_key(key, start, end)], [value], [timestamp])


@pytest.fixture
def store(engine: Engine, changelog) -> SessionStore[str]:
    return SessionStore("s", STRING, engine, changelog, retention_ms=RETENTION_MS)


# From the Kafka class SessionKeySchema.
@pytest.mark.parametrize(
    ("key", "start", "end", "store_key"),
    [
        ("k", 5, 17, "6b00000000000000110000000000000005"),
        ("k", 0, 0, "6b00000000000000000000000000000000"),
        ("k", 1700000000000, 1700000060000, "6b0000018bcfe652600000018bcfe56800"),
        ("", 5, 17, "00000000000000110000000000000005"),
    ],
)
def test_store_key_is_as_the_java_library_writes_it(key: str, start: int, end: int, store_key: str) -> None:
    assert session_store_key(key.encode(), start, end) == bytes.fromhex(store_key)
    assert split_session_store_key(bytes.fromhex(store_key)) == (key.encode(), start, end)
    assert session_end(bytes.fromhex(store_key)) == end


def test_sessions_near_a_time_are_found_in_order_when_they_lie_in_memory_and_in_the_engine(store, engine):
    put(store, b"k", 0, 10, "first")
    put(store, b"k\x00", 20, 30, "of a longer key")
    put(store, b"k", 70_000, 70_010, "third")
    commit(store, engine)
    put(store, b"k", 50_000, 50_005, "second")
    assert list(store.find_sessions(b"k")) == [
        (0, 10, "first"),
        (50_000, 50_005, "second"),
        (70_000, 70_010, "third"),
    ]
    assert [value for *_, value in store.find_sessions(b"k", reverse=True)] == ["third", "second", "first"]
    assert [value for *_, value in store.find_sessions(b"k", 10, 50_000)] == ["first", "second"]
    assert [value for *_, value in store.find_sessions(b"k", 11, 49_999)] == []
    assert [value for *_, value in store.find_sessions(b"k", -5, -1)] == []
    assert [value for *_, value in store.find_sessions(b"", 0)] == []


SESSION = st.tuples(
    st.sampled_from([b"", b"k", b"k\x00", b"k" + bytes(16), b"x"]),
    st.one_of(st.integers(0, 20), st.integers(0, 5 * MINUTE_MS)),
    st.integers(0, 50),
    st.sampled_from(["v", "w", None]),
)


@given(parts=st.lists(st.tuples(st.lists(SESSION, max_size=6), st.sampled_from(["", "sent", "applied"])), max_size=6))
def test_sessions_of_several_keys_are_those_of_each_wherever_they_lie(parts: list[Any]) -> None:
    engine, keys = MemoryEngine(), [b"x", b"", b"nobody", b"k", b"k\x00", b"k" + bytes(16)]
    store = SessionStore("s", STRING, engine, retention_ms=RETENTION_MS)
    for sessions, then in parts:
        for key, start, length, value in sessions:
            put(store, key, start, start + length, value)
        if then:
            engine.write(store.pending(), {})
        if then == "applied":
            store.applied()
        rows_of = store.find_rows(keys, ())
        found = [[(start, end, store.decode(b"", row)) for start, end, row in rows_of.get(key, ())] for key in keys]
        assert found == [list(store.find_sessions(key)) for key in keys]


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 12)),
    st.tuples(st.sampled_from(["commit", "discard", "restore", "open"]), st.just(b"d"), st.integers(0, 12)),
)


@given(steps=st.lists(STEPS, max_size=25), cache_bytes=st.sampled_from([0, 500, 1_000, 1_000_000]))
def test_all_sessions_that_can_be_read_are_found_whatever_is_known_of_keys(
    steps: list[tuple[str, bytes, int]], cache_bytes: int
) -> None:
    def opened() -> SessionStore[str]:
        return SessionStore("s", STRING, engine, None, retention_ms=RETENTION_MS, cache_bytes=cache_bytes)

    engine = MemoryEngine()
    store = opened()
    for step, key, half_minutes in steps:
        end = half_minutes * MINUTE_MS // 2
        if step == "put":
            put(store, key, end, end, "v")
        elif step == "restore":
            store.restore([session_store_key(key, end, end)], [b"v"], [end])
        elif step == "discard":
            store.discard()
        else:
            commit(store, engine)
            store = opened() if step == "open" else store
        keys = [b"a", b"b", b"c", b"d", b"e"]
        assert [[row[:2] for row in store.find_rows(keys, ()).get(key, ())] for key in keys] == [
            [row[:2] for row in store.find_sessions(key)] for key in keys
        ]


def test_sessions_are_found_again_when_what_made_them_old_was_discarded(engine: Engine) -> None:
    store = SessionStore("s", STRING, engine, retention_ms=RETENTION_MS, cache_bytes=100_000)
    put(store, b"a", 0, 0, "v")
    commit(store, engine)
    put(store, b"b", 10 * MINUTE_MS, 10 * MINUTE_MS, "v")
    assert store.find_rows([b"a"], ()) == {}
    store.discard()
    assert {key: len(rows) for key, rows in store.find_rows([b"a", b"b"], ()).items()} == {b"a": 1, b"b": 0}
    assert store.find_rows([b"a", b"b"], {b"a"}) == {b"b": []}


def test_sessions_of_a_range_of_keys_are_found_when_both_ends_are_included(store):
    for key in (b"a", b"b", b"ba", b"c"):
        put(store, key, 0, 5, key.decode())
    put(store, b"b", 10, 15, "later")
    assert [value for _, value, _ in store.find_sessions_between(b"b", b"ba")] == ["b", "later", "ba"]
    assert [value for _, value, _ in store.find_sessions_between(None, b"a")] == ["a"]
    assert [value for _, value, _ in store.find_sessions_between(b"b", None, 0, 5, reverse=True)] == ["c", "ba", "b"]


def test_one_session_is_fetched_when_both_bounds_fit(store, engine):
    put(store, b"k", 5, 17, "v")
    commit(store, engine)
    assert store.fetch_session(b"k", 5, 17) == "v"
    assert store.fetch_session(b"k", 5, 18) is None
    assert store.get(session_store_key(b"k", 5, 17)) == ("v", 17)


def test_removed_sessions_are_gone_and_logged_at_the_time_of_the_record(store, engine, changelog):
    put(store, b"k", 5, 17, "v", 17)
    commit(store, engine)
    put(store, b"k", 5, 17, None, 20)
    assert list(store.find_sessions(b"k")) == []
    assert list(store.scan()) == []
    key = session_store_key(b"k", 5, 17)
    assert changelog.records == [(key, b"v", 17), (key, None, 20)]


def test_sessions_are_unreadable_when_their_end_is_past_the_retention(store, engine):
    put(store, b"k", 0, 100, "old")
    put(store, b"k", 50_000, RETENTION_MS + 99, "new")
    assert [value for *_, value in store.find_sessions(b"k")] == ["old", "new"]
    put(store, b"x", 0, RETENTION_MS + 100, "time")
    assert [value for *_, value in store.find_sessions(b"k")] == ["new"]
    assert store.get(session_store_key(b"k", 0, 100)) is None
    assert store.expired == 0


def test_late_sessions_are_logged_but_not_kept_when_their_segment_has_expired(store, changelog):
    put(store, b"k", 0, 4 * MINUTE_MS, "now")
    put(store, b"k", 0, 2 * MINUTE_MS, "in a live segment")
    put(store, b"k", 0, 2 * MINUTE_MS - 1, "too late")
    assert store.expired == 1
    assert len(changelog.records) == 3


def test_late_sessions_are_not_kept_when_each_expires_on_its_own(engine):
    store = SessionStore("s", STRING, engine, retention_ms=100, exact_expiry=True)
    put(store, b"k", 0, 200, "now")
    put(store, b"k", 0, 101, "readable")
    put(store, b"k", 0, 100, "too late")
    assert (store.expired, [end for _, end, _ in store.find_sessions(b"k")]) == (1, [101, 200])
    assert list(store.find_ended(0, 100)) == []
    assert store.kept_from(200) == 101


def test_ended_sessions_come_by_end_then_start_then_key_when_past_the_retention(engine):
    store = SessionStore("s", STRING, engine, retention_ms=10)
    for key, start, end in [(b"b", 3, 5), (b"a", 3, 5), (b"c", 0, 5), (b"d", 4, 4), (b"e", 50, 50)]:
        put(store, key, start, end, f"{key.decode()}{start}")
    commit(store, engine)
    assert [value for _, value, _ in store.find_ended(4, 49)] == ["d4", "c0", "a3", "b3"]
    assert [value for _, value, _ in store.find_ended(5, 5)] == ["c0", "a3", "b3"]
    put(store, b"e", 0, 10_000_000, "far later")
    assert list(store.find_ended(0, 49)) == []
    assert store.kept_from(10_000_000) == 9_960_000


def test_state_is_that_of_the_changelog_when_a_store_is_restored(store, changelog):
    put(store, b"k", 0, 10, "a")
    put(store, b"k", 0, 10, None)
    put(store, b"k", 0, 20, "b")
    other = SessionStore("s", STRING, MemoryEngine(), retention_ms=RETENTION_MS)
    keys, values, timestamps = map(list, zip(*changelog.records, strict=True))
    other.restore(keys, values, timestamps)
    assert list(other.scan()) == list(store.scan()) == [(session_store_key(b"k", 0, 20), "b", 20)]
    assert other.observed_stream_time == 20


def test_sessions_and_time_survive_when_a_store_is_opened_again(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    store = SessionStore("s", INT64, engine, retention_ms=RETENTION_MS)
    put(store, b"k", 0, 10, 1)
    put(store, b"k", 0, 5 * MINUTE_MS, 2)
    commit(store, engine)
    again = SessionStore("s", INT64, open_rocks(), retention_ms=RETENTION_MS)
    assert again.observed_stream_time == 5 * MINUTE_MS
    assert list(again.find_sessions(b"k")) == [(0, 5 * MINUTE_MS, 2)]


def test_uncommitted_sessions_are_forgotten_when_discarded(store, engine):
    put(store, b"k", 0, 10, "kept")
    commit(store, engine)
    put(store, b"k", 0, 20, "lost")
    assert store.pending_rows == 1
    store.discard()
    assert (list(store.find_sessions(b"k")), store.pending_rows) == ([(0, 10, "kept")], 0)


def test_error_names_the_store_when_a_value_does_not_fit(engine):
    put(SessionStore("s", STRING, engine, retention_ms=10), b"k", 0, 1, "text")
    store = SessionStore("s", INT64, engine, retention_ms=10)
    with pytest.raises(SerdeError, match=r"store 's'.*a str"):
        put(store, b"k", 0, 1, "text")
    store.restore([session_store_key(b"k", 0, 1)], [b"text"], [1])
    with pytest.raises(DeserializationError, match=r"store 's'.*value type changed"):
        list(store.find_sessions(b"k"))


@given(
    puts=st.lists(
        st.tuples(
            st.sampled_from([b"", b"a", b"a\x00", b"b"]),
            st.integers(0, 300_000),
            st.integers(0, 40_000),
            st.none() | st.integers(0, 9),
            st.booleans(),
        ),
        max_size=30,
    ),
    key=st.sampled_from([b"", b"a", b"a\x00", b"b"]),
    bounds=st.tuples(st.integers(-10, 300_000), st.integers(-10, 300_000)),
)
def test_what_is_found_is_what_a_dict_would_give_after_any_puts(puts: Any, key: bytes, bounds: Any) -> None:
    engine = MemoryEngine()
    store = SessionStore("s", INT64, engine, retention_ms=RETENTION_MS)
    rows: dict[tuple[bytes, int, int], int | None] = {}
    observed = -1
    for plain, start, length, value, committing in puts:
        put(store, plain, start, start + length, value)
        observed = max(observed, start + length)
        rows[plain, start, start + length] = value
        if committing:
            commit(store, engine)
    earliest_end, latest_start = bounds
    wanted = [
        (start, end, value)
        for (plain, start, end), value in rows.items()
        if plain == key and value is not None and end > observed - RETENTION_MS
        if end >= earliest_end and start <= latest_start
    ]
    assert list(store.find_sessions(key, earliest_end, latest_start)) == sorted(wanted, key=lambda row: row[1::-1])
