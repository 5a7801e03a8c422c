"""What ``import streamlib`` gives: a change here is a change for users."""

import inspect

import streamlib
from streamlib import serdes

NAMES = """
Branched BranchedKStream BufferConfig BufferFullError Cancellable CogroupedKStream ConfigError Consumed CustomStore
CustomStoreContext DeserializationError EagerBufferConfig EmitStrategy FailedRecord FixedKeyProcessor
FixedKeyProcessorContext FixedKeyProcessorSupplier FixedKeyRecord GlobalKTable JoinWindows KGroupedStream KGroupedTable
KStream KTable KafkaStreams KeyTimers KeyValueStore Materialized ProcessingError Processor ProcessorContext
ProcessorSupplier PunctuationType ReadOnlyKeyValueStore ReadOnlySessionStore ReadOnlyTimestampedKeyValueStore
ReadOnlyTimestampedWindowStore ReadOnlyVersionedKeyValueStore ReadOnlyWindowStore Record RecordContext RecordMetadata
Serde SerdeError SessionStore SessionWindowedCogroupedKStream SessionWindowedKStream SessionWindows SlidingWindows
StateStoreError Stores StreamJoined StreamlibError StreamsBuilder StreamsConfig StrictBufferConfig Suppressed
TableJoined TimeWindowedCogroupedKStream TimeWindowedKStream TimeWindows TimestampedKeyValueStore TimestampedWindowStore
Topology TopologyBuilder TopologyError TransportError UnlimitedWindows UnstableNameWarning ValueAndTimestamp
ValueTransformerWithKey ValueTransformerWithKeySupplier VersionedKeyValueStore WindowStore Windowed error_policies
serdes timestamps
"""

SERDES = "BYTES FLOAT64 INT64 JSON STRING AnySerde Serde changed json session_windowed time_windowed"

METHODS = {
    "StreamsBuilder": "add_global_store add_state_store build global_table stream table",
    "KStream": """deduplicate filter filter_not flat_map flat_map_values for_each group_by group_by_key join left_join
        map map_async map_values map_values_async merge outer_join peek print process process_async process_values
        repartition select_key split to to_table""",
    "BranchedKStream": "branch default_branch no_default_branch",
    "KTable": """filter filter_not group_by join left_join map_values outer_join queryable_store_name
        suppress to_stream transform_values""",
    "GlobalKTable": "queryable_store_name",
    "KGroupedStream": "aggregate cogroup count reduce windowed_by",
    "KGroupedTable": "aggregate count reduce",
    "CogroupedKStream": "aggregate cogroup windowed_by",
    "TimeWindowedCogroupedKStream": "aggregate",
    "SessionWindowedCogroupedKStream": "aggregate",
    "SessionWindowedKStream": "aggregate count emit_strategy reduce",
    "TimeWindowedKStream": "aggregate count emit_strategy reduce",
    "Topology": """changelog_topic children copartition_groups copartitioned describe name nodes physical_topic
        repartition_topics stores subtopologies to_json to_mermaid""",
    "BufferConfig": """bytes_max emit_early_when_full logging max_bytes max_records records_max shut_down_when_full
        topic_configs unbounded with_logging_disabled with_logging_enabled with_max_bytes with_max_records
        with_no_bound""",
    "Suppressed": "buffer until_time_limit until_window_closes wait_ms",
    "JoinWindows": "after_ms before_ms grace_ms of retention_ms size_ms",
    "FixedKeyProcessor": "close init process",
    "FixedKeyProcessorContext": """app_configs application_id commit current_stream_time_ms current_system_time_ms
        forward get_state_store key_timers record_metadata schedule task_id""",
    "FixedKeyRecord": "headers key timestamp value with_headers with_timestamp with_value",
    "KeyTimers": "cancel get set",
    "KeyValueStore": """all approximate_num_entries delete get name prefix_scan put put_all put_if_absent range
        reverse_all reverse_range""",
    "Processor": "close init process",
    "ProcessorContext": """app_configs application_id commit current_stream_time_ms current_system_time_ms
        forward get_state_store key_timers record_metadata schedule task_id""",
    "Record": "headers key timestamp value with_headers with_key with_timestamp with_value",
    "SessionStore": """backward_fetch backward_find_sessions fetch fetch_keys fetch_session find_sessions
        find_sessions_of_keys name put remove""",
    "Branched": "as_ consumer function name with_consumer with_function with_name",
    "CustomStore": "close flush init restore",
    "CustomStoreContext": "log log_many",
    "RecordContext": "headers offset partition timestamp topic",
    "Stores": """custom_store key_timers key_value_store lru_map session_store timestamped_key_value_store
        timestamped_window_store versioned_key_value_store window_store""",
    "TopologyBuilder": """add_global_store add_processor add_read_only_state_store add_sink add_source add_state_store
        build connect_processor_and_state_stores""",
    "VersionedKeyValueStore": "delete get name put",
    "WindowStore": """all backward_all backward_fetch_all backward_fetch_keys backward_fetch_range fetch fetch_all
        fetch_keys fetch_range name put""",
    "SessionWindows": "default_retention_ms gap_ms grace_ms of",
    "TimeWindows": "advance_ms default_retention_ms grace_ms of size_ms starts",
    "EmitStrategy": "ON_WINDOW_CLOSE ON_WINDOW_UPDATE",
    "SlidingWindows": "default_retention_ms difference_ms grace_ms of size_ms",
    "UnlimitedWindows": "default_retention_ms grace_ms of size_ms start_ms starts",
}


def members(name: str) -> list[str]:
    kind = getattr(streamlib, name)
    ours = [vars(base).keys() for base in kind.__mro__ if base.__module__.startswith("streamlib.")]
    own = set().union(*ours, getattr(kind, "__dataclass_fields__", {}))
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
        if inspect.isfunction(inspect.getattr_static(getattr(streamlib, name), member, None))
    ]
    assert len(methods) > 30
    assert [method.__qualname__ for method in methods if not inspect.getdoc(method)] == []
