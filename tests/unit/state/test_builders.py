from datetime import timedelta
from typing import Any

import pytest

from streamlib.serdes import INT64, STRING
from streamlib.state.builders import Stores

SECOND = timedelta(seconds=1)


def test_stores_are_persistent_logged_and_uncached_when_nothing_else_is_said() -> None:
    spec = Stores.key_value_store("s", STRING, INT64)
    assert (spec.kind, spec.timestamped, spec.persistent, spec.logging, spec.caching) == (
        "key_value",
        False,
        True,
        True,
        False,
    )


def test_settings_reach_the_description() -> None:
    settings: dict[str, Any] = {"in_memory": True, "caching": True, "logging": False}
    spec = Stores.timestamped_key_value_store("s", STRING, INT64, **settings, topic_configs={"a": "b"})
    assert (spec.timestamped, spec.persistent, spec.caching, spec.logging) == (True, False, True, False)
    assert spec.topic_configs == {"a": "b"}


def test_times_are_milliseconds() -> None:
    window = Stores.window_store("w", STRING, INT64, retention=SECOND, window_size=timedelta(milliseconds=10))
    assert (window.kind, window.retention_ms, window.window_size_ms, window.timestamped) == ("window", 1000, 10, False)
    assert Stores.timestamped_window_store("w", STRING, INT64, retention=SECOND, window_size=SECOND).timestamped
    session = Stores.session_store("s", STRING, INT64, retention=SECOND)
    assert (session.kind, session.retention_ms) == ("session", 1000)
    versioned = Stores.versioned_key_value_store("v", STRING, INT64, history_retention=SECOND)
    assert (versioned.kind, versioned.retention_ms) == ("versioned", 1000)


def test_a_store_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="less than their size"):
        Stores.window_store("w", STRING, INT64, retention=timedelta(), window_size=SECOND)
    with pytest.raises(ValueError, match="cannot be negative"):
        Stores.session_store("s", STRING, INT64, retention=-SECOND)
    with pytest.raises(ValueError, match="at least 1 key"):
        Stores.lru_map("s", STRING, INT64, 0)
    with pytest.raises(TypeError, match="no setting of a store: cashing"):
        Stores.key_value_store("s", STRING, INT64, cashing=True)  # type: ignore[call-arg]
