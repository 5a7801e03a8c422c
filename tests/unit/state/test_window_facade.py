from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from streamlib.record import Windowed
from streamlib.serdes import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.builders import Stores
from streamlib.state.key_value_facade import ValueAndTimestamp
from streamlib.state.stores import open_store
from streamlib.state.window import window_store_key
from streamlib.state.window_facade import ReadOnlyWindowStore, TimestampedWindowStore, WindowStore

MINUTE = timedelta(minutes=1)


@dataclass
class At:
    timestamp: int = 5


@pytest.fixture
def store(engine: Engine, changelog: Any) -> WindowStore[str, int]:
    spec = Stores.window_store("w", STRING, INT64, retention=MINUTE, window_size=timedelta(milliseconds=10))
    return WindowStore(spec, open_store(spec, engine, changelog), At())  # type: ignore[arg-type]


def window(key: str, start: int) -> Windowed[str]:
    return Windowed(key, start, start + 10)


def test_windows_of_a_key_are_found_by_time(store: WindowStore[str, int]) -> None:
    for start in (0, 10, 20):
        store.put("a", start, start)
    store.put("aa", 7, 10)
    assert (store.fetch("a", 10), store.fetch("a", 11), store.fetch("b", 10)) == (10, None, None)
    assert list(store.fetch_range("a", 5, 20)) == [(10, 10), (20, 20)]
    assert list(store.backward_fetch_range("a", 0, 10)) == [(10, 10), (0, 0)]


def test_windows_of_all_keys_are_found_by_key_and_time(store: WindowStore[str, int]) -> None:
    for key, start in (("a", 0), ("b", 0), ("c", 0), ("b", 10)):
        store.put(key, start, start)
    assert list(store.fetch_keys("b", "c", 0, 5)) == [(window("b", 0), 0), (window("c", 0), 0)]
    assert list(store.backward_fetch_keys(None, "b", 0, 10)) == [
        (window("b", 10), 10),
        (window("b", 0), 0),
        (window("a", 0), 0),
    ]
    assert list(store.fetch_all(5, 10)) == [(window("b", 10), 10)]
    assert list(store.backward_fetch_all(0, 0)) == [(window(key, 0), 0) for key in "cba"]
    assert len(list(store.all())) == len(list(store.backward_all())) == 4


def test_a_window_is_gone_when_it_is_deleted_or_past_the_retention(store: WindowStore[str, int]) -> None:
    store.put("a", 1, 0)
    store.put("a", None, 0)
    assert store.fetch("a", 0) is None
    store.put("a", 2, 0)
    store.put("b", 3, 500_000)
    store.put("a", 4, 0)
    assert list(store.all()) == [(window("b", 500_000), 3)]


def test_writes_are_logged_at_the_time_of_the_record(store: WindowStore[str, int], changelog: Any) -> None:
    store.put("a", 1, 30)
    assert changelog.records == [(window_store_key(b"a", 30), INT64.serialize(1), 5)]


def test_windows_show_their_timestamps_when_the_store_has_them(engine: Engine, changelog: Any) -> None:
    spec = Stores.timestamped_window_store("w", STRING, INT64, retention=MINUTE, window_size=MINUTE)
    store: TimestampedWindowStore[str, int] = TimestampedWindowStore(
        spec,
        open_store(spec, engine, changelog),  # type: ignore[arg-type]
        At(),
    )
    store.put("a", ValueAndTimestamp(1, 77), 0)
    assert store.fetch("a", 0) == (1, 77)
    store.put("a", None, 0)
    assert [timestamp for _, _, timestamp in changelog.records] == [77, 5]


def test_a_store_to_be_read_has_no_way_to_write() -> None:
    assert not hasattr(ReadOnlyWindowStore, "put")
