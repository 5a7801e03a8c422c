import dataclasses

import pytest

from streamlib.errors import StateStoreError
from streamlib.serdes.primitives import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import open_store
from streamlib.state.window import WindowTimestampedStore, window_store_key

COUNTS = StoreSpec("counts", "key_value", STRING, INT64)
WINDOWS = StoreSpec("windows", "window", STRING, INT64, retention_ms=90_000, window_size_ms=1000)


def test_store_has_its_kind_and_serde_when_opened(engine: Engine, changelog) -> None:
    counts = open_store(COUNTS, engine, changelog, cache_bytes=1000)
    assert isinstance(counts, KeyValueTimestampedStore)
    counts.put_many([b"k"], [5], [1])
    windows = open_store(WINDOWS, engine, changelog)
    assert isinstance(windows, WindowTimestampedStore)
    windows.put_many([window_store_key(b"k", 1000), window_store_key(b"k", 200_000)], [6, 7], [1, 2])
    assert counts.get(b"k") == (5, 1)
    assert windows.get_many([window_store_key(b"k", 1000), window_store_key(b"k", 200_000)]) == [None, (7, 2)]
    assert [counts.name, windows.name] == ["counts", "windows"]
    assert len(changelog.records) == 3


def test_stores_of_similar_names_are_apart_in_one_engine(engine: Engine) -> None:
    windows = open_store(dataclasses.replace(WINDOWS, name="a"), engine)
    others = [
        open_store(dataclasses.replace(COUNTS, name=name), engine) for name in ("a.60000", "a.60000.0", "default")
    ]
    windows.put_many([window_store_key(b"k", 0)], [1], [0])
    for number, store in enumerate(others):
        store.put_many([window_store_key(b"k", 0)], [number + 2], [0])
    for store in (windows, *others):
        engine.write(store.pending(), {})
        store.applied()
        store.discard()
    assert [store.get(window_store_key(b"k", 0)) for store in (windows, *others)] == [(1, 0), (2, 0), (3, 0), (4, 0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "window", "retain_duplicates": True}, "there is no window store that retains duplicates"),
    ],
)
def test_error_names_the_store_when_its_kind_is_unknown(engine: Engine, change: dict, message: str) -> None:
    with pytest.raises(StateStoreError, match=message):
        open_store(dataclasses.replace(COUNTS, **change), engine)
