"""What the cluster says of its topics: partitions, leaders, and the offsets of logs, asked for afresh each time.

Next: `admin`, and `consumer` for the bounds of a log.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka.errors import LeaderNotAvailableError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from streamlib.errors import MissingTopicError
from streamlib.record import TopicPartition
from streamlib.transport.kafka.client import KafkaClient, retrying
from streamlib.transport.kafka.translation import error_for

LATEST = -1
EARLIEST = -2
READ_UNCOMMITTED = 0
NO_REPLICA = -1
NO_LEADER = -1
UNKNOWN_TOPIC = 3


@dataclass(frozen=True)
class TopicMetadata:
    """A topic as the cluster knows it.

    Attributes:
        internal: Whether it is the broker's own.
        leaders: Node id of each partition's leader, -1 for none.
    """

    internal: bool
    leaders: Mapping[int, int]


async def fetch_topics(client: KafkaClient, names: Collection[str] | None) -> dict[str, TopicMetadata]:
    """Those of ``names`` that exist, or all topics if None; one request, not repeated.

    Raises:
        KafkaError: No answer, or a permission is missing.
    """
    if names is not None and not names:
        return {}
    request = MetadataRequest(None if names is None else sorted(names), allow_auto_topic_creation=False)
    response = await client.send(client.get_random_node(), request)
    found = {}
    for code, name, internal, partitions in response.topics:
        if code == UNKNOWN_TOPIC:
            continue
        if code:
            raise error_for(code, f"topic={name}")
        found[name] = TopicMetadata(bool(internal), {partition: leader for _, partition, leader, *_ in partitions})
    return found


async def by_leader(client: KafkaClient, tps: Collection[TopicPartition]) -> dict[int, list[TopicPartition]]:
    """Partitions by the node that leads them; one request, not repeated.

    Raises:
        MissingTopicError: A topic or partition does not exist.
        KafkaError: A partition has no leader at the moment, or no answer came.
    """
    topics = await fetch_topics(client, {tp.topic for tp in tps})
    leaders: dict[int, list[TopicPartition]] = {}
    for tp in tps:
        node = topics[tp.topic].leaders.get(tp.partition) if tp.topic in topics else None
        if node is None:
            msg = f"topic={tp.topic} partition={tp.partition} does not exist"
            raise MissingTopicError(msg)
        if node == NO_LEADER:
            msg = f"topic={tp.topic} partition={tp.partition} has no leader"
            raise LeaderNotAvailableError(msg)
        leaders.setdefault(node, []).append(tp)
    return leaders


async def list_offsets(
    client: KafkaClient, at: Mapping[TopicPartition, int], *, timeout_s: float = 15.0
) -> dict[TopicPartition, int]:
    """For each partition the first offset not older than a timestamp, -1 where there is none; read uncommitted.

    Args:
        client: A started client.
        at: Milliseconds since the epoch, or `EARLIEST` or `LATEST` for the ends of the log.
        timeout_s: How long to try.

    Raises:
        MissingTopicError: A topic or partition does not exist.
        BrokerUnavailableError: A leader did not answer in time.

    Source: KAFKA-10167: the end to which a changelog is restored must not wait for transaction markers, or the last
        transaction is lost.
    """
    found: dict[TopicPartition, int] = {}

    async def attempt() -> None:
        for node, tps in (await by_leader(client, [tp for tp in at if tp not in found])).items():
            topics: dict[str, list[tuple[int, int]]] = {}
            for tp in tps:
                topics.setdefault(tp.topic, []).append((tp.partition, at[tp]))
            response = await client.send(node, OffsetRequest(NO_REPLICA, READ_UNCOMMITTED, list(topics.items())))
            for topic, partitions in response.topics:
                for partition, code, _, offset in partitions:
                    if code:
                        raise error_for(code, f"topic={topic} partition={partition}")
                    found[TopicPartition(topic, partition)] = offset

    await retrying(client, "cannot look up offsets", attempt, timeout_s=timeout_s)
    return found
