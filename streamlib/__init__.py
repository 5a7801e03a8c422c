"""Kafka Streams for Python: topologies of map, join and window operators over Kafka, with local state."""

from streamlib import error_policies as error_policies
from streamlib import serdes as serdes
from streamlib.config import StreamsConfig as StreamsConfig
from streamlib.dead_letters import FailedRecord as FailedRecord
from streamlib.dsl.branched import Branched as Branched
from streamlib.dsl.branched import BranchedKStream as BranchedKStream
from streamlib.dsl.builder import StreamsBuilder as StreamsBuilder
from streamlib.dsl.cogrouped import SessionWindowedCogroupedKStream as SessionWindowedCogroupedKStream
from streamlib.dsl.cogrouped import TimeWindowedCogroupedKStream as TimeWindowedCogroupedKStream
from streamlib.dsl.foreign_key_joins import TableJoined as TableJoined
from streamlib.dsl.grouped import CogroupedKStream as CogroupedKStream
from streamlib.dsl.grouped import KGroupedStream as KGroupedStream
from streamlib.dsl.join_streams import StreamJoined as StreamJoined
from streamlib.dsl.options import Consumed as Consumed
from streamlib.dsl.options import Materialized as Materialized
from streamlib.dsl.session_windowed import SessionWindowedKStream as SessionWindowedKStream
from streamlib.dsl.stream import KStream as KStream
from streamlib.dsl.table import GlobalKTable as GlobalKTable
from streamlib.dsl.table import KGroupedTable as KGroupedTable
from streamlib.dsl.table import KTable as KTable
from streamlib.dsl.topology_builder import TopologyBuilder as TopologyBuilder
from streamlib.dsl.windowed import TimeWindowedKStream as TimeWindowedKStream
from streamlib.errors import BufferFullError as BufferFullError
from streamlib.errors import ConfigError as ConfigError
from streamlib.errors import DeserializationError as DeserializationError
from streamlib.errors import ProcessingError as ProcessingError
from streamlib.errors import SerdeError as SerdeError
from streamlib.errors import StateStoreError as StateStoreError
from streamlib.errors import StreamlibError as StreamlibError
from streamlib.errors import TopologyError as TopologyError
from streamlib.errors import TransportError as TransportError
from streamlib.kafka_streams import KafkaStreams as KafkaStreams
from streamlib.record import FixedKeyRecord as FixedKeyRecord
from streamlib.record import Record as Record
from streamlib.record import Windowed as Windowed
from streamlib.serdes.base import Serde as Serde
from streamlib.state.builders import Stores as Stores
from streamlib.state.custom import CustomStore as CustomStore
from streamlib.state.custom import CustomStoreContext as CustomStoreContext
from streamlib.state.key_value_facade import KeyValueStore as KeyValueStore
from streamlib.state.key_value_facade import ReadOnlyKeyValueStore as ReadOnlyKeyValueStore
from streamlib.state.key_value_facade import ReadOnlyTimestampedKeyValueStore as ReadOnlyTimestampedKeyValueStore
from streamlib.state.key_value_facade import TimestampedKeyValueStore as TimestampedKeyValueStore
from streamlib.state.key_value_facade import ValueAndTimestamp as ValueAndTimestamp
from streamlib.state.session_facade import ReadOnlySessionStore as ReadOnlySessionStore
from streamlib.state.session_facade import SessionStore as SessionStore
from streamlib.state.versioned_facade import ReadOnlyVersionedKeyValueStore as ReadOnlyVersionedKeyValueStore
from streamlib.state.versioned_facade import VersionedKeyValueStore as VersionedKeyValueStore
from streamlib.state.window_facade import ReadOnlyTimestampedWindowStore as ReadOnlyTimestampedWindowStore
from streamlib.state.window_facade import ReadOnlyWindowStore as ReadOnlyWindowStore
from streamlib.state.window_facade import TimestampedWindowStore as TimestampedWindowStore
from streamlib.state.window_facade import WindowStore as WindowStore
from streamlib.topology import timestamps as timestamps
from streamlib.topology.naming import UnstableNameWarning as UnstableNameWarning
from streamlib.topology.processor_api import Cancellable as Cancellable
from streamlib.topology.processor_api import FixedKeyProcessor as FixedKeyProcessor
from streamlib.topology.processor_api import FixedKeyProcessorContext as FixedKeyProcessorContext
from streamlib.topology.processor_api import FixedKeyProcessorSupplier as FixedKeyProcessorSupplier
from streamlib.topology.processor_api import KeyTimers as KeyTimers
from streamlib.topology.processor_api import Processor as Processor
from streamlib.topology.processor_api import ProcessorContext as ProcessorContext
from streamlib.topology.processor_api import ProcessorSupplier as ProcessorSupplier
from streamlib.topology.processor_api import PunctuationType as PunctuationType
from streamlib.topology.processor_api import RecordMetadata as RecordMetadata
from streamlib.topology.processor_api import ValueTransformerWithKey as ValueTransformerWithKey
from streamlib.topology.processor_api import ValueTransformerWithKeySupplier as ValueTransformerWithKeySupplier
from streamlib.topology.suppressed import BufferConfig as BufferConfig
from streamlib.topology.suppressed import EagerBufferConfig as EagerBufferConfig
from streamlib.topology.suppressed import StrictBufferConfig as StrictBufferConfig
from streamlib.topology.suppressed import Suppressed as Suppressed
from streamlib.topology.topic_names import RecordContext as RecordContext
from streamlib.topology.topology import Topology as Topology
from streamlib.topology.windows import EmitStrategy as EmitStrategy
from streamlib.topology.windows import JoinWindows as JoinWindows
from streamlib.topology.windows import SessionWindows as SessionWindows
from streamlib.topology.windows import SlidingWindows as SlidingWindows
from streamlib.topology.windows import TimeWindows as TimeWindows
from streamlib.topology.windows import UnlimitedWindows as UnlimitedWindows

__all__ = [
    "Branched",
    "BranchedKStream",
    "BufferConfig",
    "BufferFullError",
    "Cancellable",
    "CogroupedKStream",
    "ConfigError",
    "Consumed",
    "CustomStore",
    "CustomStoreContext",
    "DeserializationError",
    "EagerBufferConfig",
    "EmitStrategy",
    "FailedRecord",
    "FixedKeyProcessor",
    "FixedKeyProcessorContext",
    "FixedKeyProcessorSupplier",
    "FixedKeyRecord",
    "GlobalKTable",
    "JoinWindows",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "KafkaStreams",
    "KeyTimers",
    "KeyValueStore",
    "Materialized",
    "ProcessingError",
    "Processor",
    "ProcessorContext",
    "ProcessorSupplier",
    "PunctuationType",
    "ReadOnlyKeyValueStore",
    "ReadOnlySessionStore",
    "ReadOnlyTimestampedKeyValueStore",
    "ReadOnlyTimestampedWindowStore",
    "ReadOnlyVersionedKeyValueStore",
    "ReadOnlyWindowStore",
    "Record",
    "RecordContext",
    "RecordMetadata",
    "Serde",
    "SerdeError",
    "SessionStore",
    "SessionWindowedCogroupedKStream",
    "SessionWindowedKStream",
    "SessionWindows",
    "SlidingWindows",
    "StateStoreError",
    "Stores",
    "StreamJoined",
    "StreamlibError",
    "StreamsBuilder",
    "StreamsConfig",
    "StrictBufferConfig",
    "Suppressed",
    "TableJoined",
    "TimeWindowedCogroupedKStream",
    "TimeWindowedKStream",
    "TimeWindows",
    "TimestampedKeyValueStore",
    "TimestampedWindowStore",
    "Topology",
    "TopologyBuilder",
    "TopologyError",
    "TransportError",
    "UnlimitedWindows",
    "UnstableNameWarning",
    "ValueAndTimestamp",
    "ValueTransformerWithKey",
    "ValueTransformerWithKeySupplier",
    "VersionedKeyValueStore",
    "WindowStore",
    "Windowed",
    "error_policies",
    "serdes",
    "timestamps",
]
