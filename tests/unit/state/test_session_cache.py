from typing import Any

import pytest

from streamlib.record import Windowed
from streamlib.serdes import JSON
from streamlib.serdes.primitives import INT64
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.memory import MemoryEngine
from streamlib.state.session import SessionStore
from streamlib.state.session_cache import Session, SessionCache
from streamlib.state.session_keys import session_store_key

KEY = b"k"


class Site:
    """A cache over a store of retention 100, for one key."""

    def __init__(self, changelog: Any, serde: Any = INT64, *, send_old: bool = False, max_bytes: int = 1 << 20) -> None:
        self.changelog = changelog
        self.store: SessionStore[Any] = SessionStore("s", serde, MemoryEngine(), changelog, retention_ms=100)
        self.cache: SessionCache[Any] = SessionCache(
            self.store, serde, memory=CacheMemory(max_bytes), send_old=send_old
        )

    def put(self, start: int, end: int, value: Any, *, gone: Any = (), timestamp: int = 0, key: bytes = KEY) -> None:
        sessions = self.cache.sessions_of([key]).get(key, [])
        session = Session(key, start, end, value)
        session.name, session.timestamp, session.headers = key.decode(), timestamp, [("h", str(timestamp).encode())]
        self.cache.replace([each for each in sessions if (each.start, each.end) in gone], session)

    def found(self, key: bytes = KEY) -> list[tuple[int, int, Any]]:
        sessions = self.cache.sessions_of([key]).get(key, [])
        return [(s.start, s.end, self.cache.value_of(s)) for s in sessions if self.cache.is_there(s)]

    def flush(self, limit: int | None = None) -> list[tuple[Any, ...]]:
        changes = self.cache.flush(limit)
        if changes is None:
            return []
        olds = changes.olds or [None] * len(changes)
        keys = [(key.start, key.end) for key in changes.keys]
        return list(zip(keys, changes.values, olds, changes.timestamps, strict=True))


@pytest.fixture
def site(changelog) -> Site:
    return Site(changelog, send_old=True)


def test_one_update_comes_out_when_a_session_grows_between_two_flushes(site, changelog):
    site.put(0, 0, 1, timestamp=0)
    site.put(0, 5, 2, gone=[(0, 0)], timestamp=5)
    site.put(0, 7, 3, gone=[(0, 5)], timestamp=7)
    assert len(site.cache.dirty) == 1
    assert site.found() == [(0, 7, 3)]
    changes = site.cache.flush()
    assert changes is not None
    assert (changes.keys, changes.values, changes.olds) == ([Windowed("k", 0, 7)], [3], [None])
    assert (changes.timestamps, changes.headers) == ([7], [[("h", b"7")]])
    assert changelog.records == [(session_store_key(KEY, 0, 7), INT64.serialize(3), 7)]


def test_a_deletion_comes_out_when_the_store_has_the_session_that_was_merged(site, changelog):
    site.put(0, 0, 1)
    site.flush()
    site.put(0, 5, 2, gone=[(0, 0)], timestamp=5)
    assert site.flush() == [((0, 0), None, 1, 0), ((0, 5), 2, None, 5)]
    assert [(value, at) for _, value, at in changelog.records[1:]] == [(None, 5), (INT64.serialize(2), 5)]
    assert site.found() == [(0, 5, 2)]


def test_several_sessions_become_one_when_some_are_stored_and_some_are_not(site):
    site.put(0, 0, 1)
    site.flush()
    site.put(10, 10, 1)
    site.put(20, 20, 1)
    site.put(0, 20, 4, gone=[(0, 0), (10, 10), (20, 20)])
    assert site.found() == [(0, 20, 4)]
    assert site.flush() == [((0, 0), None, 1, 0), ((0, 20), 4, None, 20)]
    assert site.flush() == []


def test_a_session_that_takes_its_own_place_is_no_deletion(site):
    site.put(0, 10, 1)
    site.flush()
    site.put(0, 10, 2, gone=[(0, 10)])
    assert site.flush() == [((0, 10), 2, 1, 10)]


def test_updates_come_in_the_order_of_the_last_one_of_each_session(site):
    site.put(0, 0, 1)
    site.put(50, 50, 1)
    site.put(0, 0, 2)
    assert [key for key, *_ in site.flush()] == [(50, 50), (0, 0)]


def test_the_first_updates_are_flushed_when_there_is_a_limit(site):
    for time in (0, 20, 40):
        site.put(time, time, time)
    site.put(0, 21, 9, gone=[(0, 0), (20, 20)])
    assert site.flush(1) == []  # a new session that was merged into another: nobody hears of it
    assert [key for key, *_ in site.flush(1)] == [(40, 40)]
    assert len(site.cache.dirty) > 0
    site.put(30, 30, 1)
    assert [key for key, *_ in site.flush()] == [(0, 21), (30, 30)]


def test_a_removed_session_comes_back_when_it_is_put_again_before_the_flush(site):
    site.put(0, 0, 1)
    site.flush()
    site.put(0, 5, 2, gone=[(0, 0)])
    site.put(0, 0, 3, gone=[(0, 5)])
    assert site.flush() == [((0, 0), 3, 1, 0)]


def test_nothing_comes_out_when_a_new_session_is_removed_by_its_aggregator(site, changelog):
    site.put(0, 0, None)
    assert (site.found(), site.flush(), changelog.records) == ([], [], [])


def test_flushed_sessions_are_found_though_past_the_retention_but_their_removal_is_silent(site, changelog):
    site.put(0, 0, 1)
    site.put(200, 200, 1, key=b"time")
    site.flush()
    assert list(site.store.find_sessions(KEY)) == []
    assert site.found() == [(0, 0, 1)]
    site.put(0, 150, 2, gone=[(0, 0)])
    assert site.flush() == [((0, 150), 2, None, 150)]


def test_sessions_that_came_from_the_store_are_gone_when_past_the_retention(changelog):
    site = Site(changelog)
    site.store.put_many([session_store_key(KEY, 0, 0)], [1], [0])
    assert site.found() == [(0, 0, 1)]
    site.store.put_many([session_store_key(b"x", 0, 100)], [1], [0])
    assert site.found() == []


def test_a_removal_is_silent_when_an_update_flushed_before_it_ends_the_retention(site):
    site.put(0, 0, 1)
    site.put(101, 101, 1, key=b"x")
    site.flush()
    site.put(102, 102, 5, key=b"x")
    site.put(5, 5, 1)
    site.put(300, 300, 1, gone=[(5, 5)])
    assert [key for key, *_ in site.flush()] == [(102, 102), (300, 300)]


def test_flushed_values_stay_as_they_are_when_an_aggregate_is_changed_in_place(changelog):
    site = Site(changelog, JSON)
    site.put(0, 0, ["a"])
    ((_, sent, _, _),) = site.flush()
    (session,) = site.cache.sessions_of([KEY])[KEY]
    value = site.cache.value_of(session)
    value.append("b")
    assert (sent, site.found(), site.cache.get_many([session_store_key(KEY, 0, 0)])) == (
        ["a"],
        [(0, 0, ["a"])],
        [(["a"], 0)],
    )


def test_rows_are_those_of_the_cache_before_those_of_the_store_when_read_by_key(changelog):
    site = Site(changelog, JSON)
    keys = [session_store_key(KEY, time, time) for time in (0, 20, 40, 60)]
    site.store.put_many(keys[:3], [["stored"]] * 3, [0, 0, 0])
    site.put(20, 20, ["new"])
    site.put(0, 60, ["merged"], gone=[(40, 40)])
    dirty = site.cache.get_many([keys[1]])[0]
    assert dirty == (["new"], 20)
    dirty[0].append("not seen")
    assert site.cache.get_many(keys) == [(["stored"], 0), (["new"], 20), None, None]
    assert sorted(value[0] for _, value, _ in site.cache.scan()) == ["merged", "new", "stored"]


def test_a_removal_is_written_when_a_later_session_never_got_to_the_store(site):
    site.put(0, 0, 1)
    site.flush()
    site.put(500, 500, 2, timestamp=500)
    first, never_stored = site.cache.sessions_of([KEY])[KEY]
    site.cache.remove([never_stored], never_stored)
    site.cache.remove([first], first)
    assert site.flush() == [((0, 0), None, 1, 0)]
    assert site.store.get_many([session_store_key(KEY, 0, 0)]) == [None]


def test_clean_sessions_are_forgotten_when_memory_runs_out(changelog):
    site = Site(changelog, max_bytes=7_000)
    for number in range(100):
        site.put(0, 0, number, key=b"%d" % number)
        if site.cache.is_full():
            site.flush()
    site.put(0, 0, 7, key=b"dirty")
    site.cache.sessions_of([b"one more"])
    held = sum(map(len, site.cache._sessions.values()))
    assert 0 < held < 40
    assert site.found(b"5") == [(0, 0, 5)]
    assert site.found(b"dirty") == [(0, 0, 7)]


def test_sessions_that_can_be_read_are_kept_before_others_when_memory_runs_out(changelog):
    site = Site(changelog, max_bytes=20_000)
    time = 0
    while site.cache._added <= site.cache.max_entries:
        time += 10
        site.put(time, time, 1, key=b"%d" % time)
        site.flush()
    site.put(time, time, 2, key=b"dirty")
    site.cache.sessions_of([b"one more"])
    kept = {key for key, sessions in site.cache._sessions.items() if sessions}
    assert kept == {b"%d" % (time - 10 * age) for age in range(10)} | {b"dirty"}
    assert site.found(b"10") == []


def test_nothing_is_left_when_work_is_dropped(site):
    site.put(0, 0, 1)
    site.cache.discard()
    assert (site.found(), site.flush()) == ([], [])
