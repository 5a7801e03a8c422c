from dataclasses import dataclass
from typing import Any

import pytest

from streamlib.errors import SerdeError
from streamlib.serdes import INT64, JSON, STRING
from streamlib.state.base import Engine
from streamlib.state.builders import Stores
from streamlib.state.facade import after_prefix
from streamlib.state.key_value_facade import (
    KeyValueStore,
    ReadOnlyKeyValueStore,
    TimestampedKeyValueStore,
    ValueAndTimestamp,
)
from streamlib.state.stores import open_store


@dataclass
class At:
    timestamp: int = 5


@pytest.fixture
def at() -> At:
    return At()


@pytest.fixture
def plain(engine: Engine, changelog: Any, at: At) -> KeyValueStore[str, int]:
    spec = Stores.key_value_store("s", STRING, INT64)
    return KeyValueStore(spec, open_store(spec, engine, changelog), at)  # type: ignore[arg-type]


@pytest.fixture
def timestamped(engine: Engine, changelog: Any, at: At) -> TimestampedKeyValueStore[str, int]:
    spec = Stores.timestamped_key_value_store("s", STRING, INT64)
    return TimestampedKeyValueStore(spec, open_store(spec, engine, changelog), at)  # type: ignore[arg-type]


def test_values_are_read_back_until_they_are_deleted(plain: KeyValueStore[str, int]) -> None:
    assert plain.get("a") is None
    plain.put("a", 1)
    plain.put("a", 2)
    assert plain.get("a") == 2
    assert plain.delete("a") == 2
    assert plain.delete("a") is None
    assert list(plain.all()) == []


def test_a_value_is_put_only_once_when_it_must_be_absent(plain: KeyValueStore[str, int]) -> None:
    assert plain.put_if_absent("a", 1) is None
    assert plain.put_if_absent("a", 2) == 1
    assert plain.get("a") == 1


def test_writes_are_logged_at_the_time_of_the_record(plain: KeyValueStore[str, int], changelog: Any, at: At) -> None:
    plain.put("a", 1)
    at.timestamp = 9
    plain.delete("a")
    plain.put_all([("b", 2), ("c", None)])
    one, two = INT64.serialize(1), INT64.serialize(2)
    assert changelog.records == [(b"a", one, 5), (b"a", None, 9), (b"b", two, 9), (b"c", None, 9)]


def test_ranges_include_both_ends_and_go_both_ways(plain: KeyValueStore[str, int]) -> None:
    plain.put_all([(key, len(key)) for key in ("b", "a", "bb", "c", "bc")])
    assert [key for key, _ in plain.range("b", "bc")] == ["b", "bb", "bc"]
    assert [key for key, _ in plain.range(None, "b")] == ["a", "b"]
    assert [key for key, _ in plain.range("bc")] == ["bc", "c"]
    assert list(plain.reverse_range("a", "b")) == [("b", 1), ("a", 1)]
    assert [key for key, _ in plain.reverse_all()] == ["c", "bc", "bb", "b", "a"]
    assert [key for key, _ in plain.prefix_scan("b")] == ["b", "bb", "bc"]
    assert plain.approximate_num_entries() == 5


def test_a_listing_shows_the_rows_of_its_beginning_when_they_are_deleted_meanwhile(
    plain: KeyValueStore[str, int],
) -> None:
    plain.put_all([("a", 1), ("b", 2), ("c", 3)])
    for key, _ in plain.all():
        plain.delete(key)
    assert plain.approximate_num_entries() == 0


def test_rows_show_their_own_timestamps_when_the_store_has_them(
    timestamped: TimestampedKeyValueStore[str, int], changelog: Any
) -> None:
    timestamped.put("a", ValueAndTimestamp(1, 77))
    assert timestamped.get("a") == (1, 77)
    assert [(key, row.value, row.timestamp) for key, row in timestamped.all()] == [("a", 1, 77)]
    assert timestamped.delete("a") == ValueAndTimestamp(1, 77)
    assert [(key, timestamp) for key, _, timestamp in changelog.records] == [(b"a", 77), (b"a", 5)]


@pytest.mark.parametrize(("key", "message"), [(None, "a key cannot be None"), (5, "the key serde string cannot write")])
def test_a_key_that_cannot_be_written_is_refused(plain: KeyValueStore[str, int], key: Any, message: str) -> None:
    with pytest.raises(SerdeError, match=f"store 's': {message}"):
        plain.get(key)
    with pytest.raises(SerdeError, match=message):
        plain.put_all([("a", 1), (key, 1)])
    assert plain.get("a") is None


def test_a_value_that_does_not_fit_is_refused_and_nothing_written(
    plain: KeyValueStore[str, int], changelog: Any
) -> None:
    with pytest.raises(SerdeError, match="store 's'"):
        plain.put_all([("a", 1), ("b", "x")])  # type: ignore[list-item]
    assert (plain.get("a"), changelog.records) == (None, [])


def test_objects_are_the_callers_own(engine: Engine, at: At) -> None:
    spec = Stores.key_value_store("s", STRING, JSON)
    store: KeyValueStore[str, Any] = KeyValueStore(spec, open_store(spec, engine), at)  # type: ignore[arg-type]
    held = [1]
    store.put("a", held)
    held.append(2)
    store.get("a").append(3)
    assert store.get("a") == [1]


def test_a_store_to_be_read_has_no_way_to_write() -> None:
    assert not {"put", "put_all", "put_if_absent", "delete"} & set(dir(ReadOnlyKeyValueStore))


@pytest.mark.parametrize(("prefix", "after"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"", None)])
def test_the_end_of_a_prefix_lies_behind_all_that_begin_with_it(prefix: bytes, after: bytes | None) -> None:
    assert after_prefix(prefix) == after
