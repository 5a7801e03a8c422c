from datetime import timedelta

import pytest

from streamlib import StreamsBuilder, TimeWindows, serdes
from streamlib.testing.topology_test_driver import TopologyTestDriver

S, I = serdes.STRING, serdes.INT64  # noqa: E741
MINUTE = timedelta(minutes=1)


def driver(**options: int) -> TopologyTestDriver:
    builder = StreamsBuilder("app", default_key_serde=S, default_value_serde=I)
    builder.table("table", store="rows").to_stream().to("out")
    builder.stream("in").group_by_key().windowed_by(TimeWindows.of(MINUTE)).count(store="windows")
    builder.global_table("everywhere", store="global")
    return TopologyTestDriver(builder.build(), {"application_id": "app", **options})


@pytest.mark.parametrize("cache", [0, 1_000_000])
def test_a_test_looks_into_stores_by_their_types(cache: int) -> None:
    with driver(statestore_cache_max_bytes=cache) as d:
        d.create_input_topic("table", S, I).pipe_input("a", 1, 5)
        d.create_input_topic("in", S, I).pipe_input("a", 1, 61_000)
        assert d.get_key_value_store("rows").get("a") == 1
        assert d.get_timestamped_key_value_store("rows").get("a") == (1, 5)
        assert d.get_state_store("rows").get("a") == (1, 5)
        assert d.get_window_store("windows").fetch("a", 60_000) == 1
        assert d.get_timestamped_window_store("windows").fetch("a", 60_000) == (1, 61_000)
        assert [(window.start, window.end) for window, _ in d.get_window_store("windows").all()] == [(60_000, 120_000)]
        assert set(d.get_all_state_stores()) == {"rows", "windows", "global"}


def test_a_test_fills_a_store_before_the_first_record() -> None:
    with driver() as d:
        d.get_key_value_store("rows").put("a", 9)
        d.create_input_topic("table", S, I).pipe_input("b", 1, 5)
        d.crash()
        d.restart()
        assert list(d.get_key_value_store("rows").all()) == [("a", 9), ("b", 1)]


def test_a_global_store_can_only_be_read() -> None:
    with driver() as d:
        d.create_input_topic("everywhere", S, I).pipe_input("a", 1, 5)
        store = d.get_key_value_store("global")
        assert store.get("a") == 1
        assert not hasattr(store, "put")


def test_a_store_of_another_type_is_refused() -> None:
    with driver() as d:
        with pytest.raises(LookupError, match='no store "nothing"; there are: global, rows, windows'):
            d.get_state_store("nothing")
        with pytest.raises(TypeError, match='"windows" is a window store, not a key_value store'):
            d.get_key_value_store("windows")
        with pytest.raises(TypeError, match='"rows" is a key_value store, not a session store'):
            d.get_session_store("rows")
        with pytest.raises(TypeError, match='"rows" is a key_value store, not a versioned store'):
            d.get_versioned_key_value_store("rows")
