"""What ``import streamlib`` gives: a change here is a change for users."""

import inspect

import streamlib
from streamlib import serdes

NAMES = """
BranchedKStream ConfigError Consumed DeserializationError GlobalKTable KGroupedStream KGroupedTable KStream KTable
KafkaStreams Materialized ProcessingError Serde SerdeError StateStoreError StreamlibError StreamsBuilder StreamsConfig
TimeWindowedKStream TimeWindows Topology TopologyError TransportError UnstableNameWarning Windowed serdes
"""

SERDES = "BYTES FLOAT64 INT64 JSON STRING AnySerde Serde changed json session_windowed time_windowed"

METHODS = {
    "StreamsBuilder": "add_state_store build global_table stream table",
    "KStream": """filter filter_not flat_map flat_map_values for_each group_by group_by_key join left_join map
        map_values merge peek repartition select_key split to to_table""",
    "BranchedKStream": "branch default_branch no_default_branch",
    "KTable": "filter filter_not group_by map_values queryable_store_name to_stream",
    "GlobalKTable": "queryable_store_name",
    "KGroupedStream": "aggregate count reduce windowed_by",
    "KGroupedTable": "aggregate count reduce",
    "TimeWindowedKStream": "aggregate count reduce",
    "Topology": """changelog_topic children copartition_groups describe name nodes physical_topic repartition_topics
        stores subtopologies to_json to_mermaid""",
    "TimeWindows": "advance_ms default_retention_ms grace_ms of size_ms starts",
}


def members(name: str) -> list[str]:
    kind = getattr(streamlib, name)
    own = vars(kind).keys() | getattr(kind, "__dataclass_fields__", {}).keys()
    return sorted(member for member in own if not member.startswith("_"))


def test_the_root_gives_these_names_and_no_others() -> None:
    assert streamlib.__all__ == NAMES.split()
    assert [name for name in streamlib.__all__ if not hasattr(streamlib, name)] == []
    assert serdes.__all__ == SERDES.split()
    assert [name for name in serdes.__all__ if not hasattr(serdes, name)] == []


def test_the_facades_have_these_members_and_no_others() -> None:
    assert {name: members(name) for name in METHODS} == {name: listed.split() for name, listed in METHODS.items()}


def test_every_public_method_says_what_comes_out() -> None:
    methods = [
        getattr(getattr(streamlib, name), member)
        for name in METHODS
        for member in members(name)
        if inspect.isfunction(vars(getattr(streamlib, name)).get(member))
    ]
    assert len(methods) > 30
    assert [method.__qualname__ for method in methods if not inspect.getdoc(method)] == []
