"""Kafka Streams for Python: topologies of map, join and window operators over Kafka, with local state."""

from streamlib import serdes as serdes
from streamlib.config import StreamsConfig as StreamsConfig
from streamlib.dsl.builder import StreamsBuilder as StreamsBuilder
from streamlib.dsl.grouped import KGroupedStream as KGroupedStream
from streamlib.dsl.options import Consumed as Consumed
from streamlib.dsl.options import Materialized as Materialized
from streamlib.dsl.stream import BranchedKStream as BranchedKStream
from streamlib.dsl.stream import KStream as KStream
from streamlib.dsl.table import GlobalKTable as GlobalKTable
from streamlib.dsl.table import KGroupedTable as KGroupedTable
from streamlib.dsl.table import KTable as KTable
from streamlib.dsl.windowed import TimeWindowedKStream as TimeWindowedKStream
from streamlib.errors import ConfigError as ConfigError
from streamlib.errors import DeserializationError as DeserializationError
from streamlib.errors import ProcessingError as ProcessingError
from streamlib.errors import SerdeError as SerdeError
from streamlib.errors import StateStoreError as StateStoreError
from streamlib.errors import StreamlibError as StreamlibError
from streamlib.errors import TopologyError as TopologyError
from streamlib.errors import TransportError as TransportError
from streamlib.kafka_streams import KafkaStreams as KafkaStreams
from streamlib.record import Windowed as Windowed
from streamlib.serdes.base import Serde as Serde
from streamlib.topology.naming import UnstableNameWarning as UnstableNameWarning
from streamlib.topology.topology import Topology as Topology
from streamlib.topology.windows import TimeWindows as TimeWindows

__all__ = [
    "BranchedKStream",
    "ConfigError",
    "Consumed",
    "DeserializationError",
    "GlobalKTable",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "KafkaStreams",
    "Materialized",
    "ProcessingError",
    "Serde",
    "SerdeError",
    "StateStoreError",
    "StreamlibError",
    "StreamsBuilder",
    "StreamsConfig",
    "TimeWindowedKStream",
    "TimeWindows",
    "Topology",
    "TopologyError",
    "TransportError",
    "UnstableNameWarning",
    "Windowed",
    "serdes",
]
