from typing import Any

from streamlib.serdes import INT64, STRING
from streamlib.state.base import ChangelogWriter
from streamlib.state.builders import Stores
from streamlib.state.lru import LruKeyValueStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.stores import open_store


def opened(engine: MemoryEngine, changelog: ChangelogWriter | None = None) -> LruKeyValueStore[int]:
    store = open_store(Stores.lru_map("s", STRING, INT64, 2), engine, changelog)
    assert isinstance(store, LruKeyValueStore)
    return store


def keys(store: LruKeyValueStore[int]) -> list[bytes]:
    return [key for key, _, _ in store.scan()]


def test_the_key_that_was_not_used_for_longest_goes_when_there_is_no_room(changelog: Any) -> None:
    store = opened(MemoryEngine(), changelog)
    store.put_many([b"a", b"b"], [1, 2], [1, 1])
    assert store.get(b"a") == (1, 1)
    store.put_many([b"c"], [3], [9])
    assert keys(store) == [b"a", b"c"]
    assert changelog.records[-2:] == [(b"c", INT64.serialize(3), 9), (b"b", None, 9)]


def test_a_deletion_makes_room() -> None:
    store = opened(MemoryEngine())
    store.put_many([b"a", b"b", b"a", b"c"], [1, 2, None, 3], [1, 1, 1, 1])
    assert keys(store) == [b"b", b"c"]


def test_the_same_keys_are_there_when_the_store_is_restored(changelog: Any) -> None:
    store = opened(MemoryEngine(), changelog)
    store.put_many([b"a", b"b", b"c"], [1, 2, 3], [1, 1, 1])
    again = opened(MemoryEngine())
    again.restore(changelog.keys, changelog.values, changelog.timestamps)
    assert keys(again) == keys(store) == [b"b", b"c"]
    again.put_many([b"d"], [4], [2])
    assert keys(again) == [b"c", b"d"]


def test_what_the_engine_has_is_counted_when_the_rest_was_dropped() -> None:
    engine = MemoryEngine()
    store = opened(engine)
    store.put_many([b"a", b"b"], [1, 2], [1, 1])
    engine.write(store.pending(), {})
    store.applied()
    store.put_many([b"c"], [3], [1])
    store.discard()
    assert keys(store) == [b"a", b"b"]
    store.put_many([b"c"], [3], [1])
    assert len(keys(store)) == 2
