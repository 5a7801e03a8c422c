from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from streamlib.errors import SerdeError
from streamlib.record import Windowed
from streamlib.serdes import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.builders import Stores
from streamlib.state.session_facade import SessionStore
from streamlib.state.stores import open_store
from streamlib.state.versioned_facade import VersionedKeyValueStore


@dataclass
class At:
    timestamp: int = 5


@pytest.fixture
def sessions(engine: Engine, changelog: Any) -> SessionStore[str, int]:
    spec = Stores.session_store("s", STRING, INT64, retention=timedelta(minutes=5))
    return SessionStore(spec, open_store(spec, engine, changelog), At())  # type: ignore[arg-type]


@pytest.fixture
def versions(engine: Engine, changelog: Any) -> VersionedKeyValueStore[str, int]:
    spec = Stores.versioned_key_value_store("v", STRING, INT64, history_retention=timedelta(milliseconds=100))
    return VersionedKeyValueStore(spec, open_store(spec, engine, changelog), At())  # type: ignore[arg-type]


def test_sessions_are_found_by_key_and_time_until_they_are_removed(
    sessions: SessionStore[str, int], changelog: Any
) -> None:
    first, second, other = Windowed("a", 0, 10), Windowed("a", 30, 40), Windowed("b", 5, 7)
    for number, session in enumerate((first, second, other)):
        sessions.put(session, number)
    assert sessions.fetch_session("a", 30, 40) == 1
    assert sessions.fetch_session("a", 30, 41) is None
    assert list(sessions.fetch("a")) == [(first, 0), (second, 1)]
    assert list(sessions.backward_fetch("a")) == [(second, 1), (first, 0)]
    assert list(sessions.find_sessions("a", 10, 29)) == [(first, 0)]
    assert list(sessions.backward_find_sessions("a", 11, 30)) == [(second, 1)]
    assert sorted(sessions.fetch_keys("a", "b"), key=str) == sorted([(first, 0), (second, 1), (other, 2)], key=str)
    assert list(sessions.find_sessions_of_keys("b", None, 0, 5)) == [(other, 2)]
    sessions.remove(second)
    assert list(sessions.fetch("a")) == [(first, 0)]
    assert {timestamp for _, _, timestamp in changelog.records} == {5}
    with pytest.raises(SerdeError, match="a key cannot be None"):
        sessions.put(Windowed(None, 0, 1), 1)  # type: ignore[arg-type]


def test_versions_are_found_by_the_time_at_which_they_were_valid(versions: VersionedKeyValueStore[str, int]) -> None:
    assert versions.put("a", 1, 10) == -1
    assert versions.put("a", 3, 30) == -1
    assert versions.put("a", 2, 20) == 30
    assert versions.get("a") == (3, 30)
    assert [versions.get("a", time) for time in (9, 10, 25, 99)] == [None, (1, 10), (2, 20), (3, 30)]
    assert versions.delete("a", 40) == (3, 30)
    assert versions.get("a") is None
    assert versions.get("a", 39) == (3, 30)
    versions.put("b", 1, 1000)
    assert versions.put("a", 4, 50) == -(2**63)
