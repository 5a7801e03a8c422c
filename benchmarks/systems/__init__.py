"""The systems that can be measured, by the names they have on the command line and in results."""

from collections.abc import Callable

from benchmarks.systems.base import System
from benchmarks.systems.consume_produce import ConsumeProduce
from benchmarks.systems.faust import Faust
from benchmarks.systems.kafka_streams import KafkaStreams
from benchmarks.systems.quix import Quix
from benchmarks.systems.streamlib import Streamlib

PEERS = ("kafka-streams", "quix", "faust")


def make_system(name: str) -> System:
    """The system of that name, not yet prepared."""
    systems: dict[str, Callable[[], System]] = {
        "streamlib": Streamlib,
        "consume-produce": ConsumeProduce,
        "kafka-streams": KafkaStreams,
        "quix": Quix,
        "faust": Faust,
    }
    return systems[name]()
