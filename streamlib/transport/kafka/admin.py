"""The admin of the port: one client, requests written out, answers checked code by code."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar, cast

from aiokafka.errors import StaleMetadata
from aiokafka.protocol.admin import (
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from streamlib.errors import BrokerUnavailableError, CommitError, MissingTopicError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupDescription, OffsetAndMetadata, TopicSpec
from streamlib.transport.kafka.client import KafkaClient, retrying
from streamlib.transport.kafka.metadata import EARLIEST, LATEST, NO_LEADER, by_leader, fetch_topics, list_offsets
from streamlib.transport.kafka.protocol import MetadataV12, OffsetFetchV7
from streamlib.transport.kafka.translation import error_for

Answer = TypeVar("Answer")

TIMEOUT_MS = 15_000
TOPIC_EXISTS = 36
UNKNOWN_TOPIC = 3
GROUP_NOT_FOUND = 69
TOPIC_RESOURCE = 2
GROUP_COORDINATOR = 0
COORDINATOR_STORAGE = -1  # keep committed offsets for as long as the broker's settings say
NO_GENERATION = -1
NO_PLACEMENT: tuple[int, ...] = ()


class KafkaAdmin:
    """Looks at and changes topics, offsets and groups of a Kafka cluster.

    Args:
        client: A started client; closed by `close`.
    """

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def partition_counts(self, topics: Collection[str] | None = None) -> dict[str, int]:
        """Partition counts of those of ``topics`` that exist; of all topics but the broker's own when None."""
        found = await self._try("cannot list topics", lambda: fetch_topics(self._client, topics))
        return {
            name: len(topic.leaders)
            for name, topic in found.items()
            if topics is not None or not (topic.internal or name.startswith("__"))
        }

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The ids of those of ``topics`` that exist; none from brokers before Kafka 3.1, which do not tell."""

        async def attempt() -> dict[str, str]:
            try:
                response = await self._client.send(self._client.get_random_node(), MetadataV12(sorted(topics)))
            except NotImplementedError:
                return {}
            return cast("dict[str, str]", response.topic_ids())

        return await self._try("cannot look up the ids of topics", attempt) if topics else {}

    async def create_topics(self, topics: Collection[TopicSpec]) -> None:
        """Create topics, and return once they have leaders; those that exist already are left alone.

        Raises:
            ConfigError: The broker refuses a partition count, a replication factor or a setting.
            TransportError: A permission is missing, or the broker's policy forbids it.
        """
        wanted = {topic.name: topic for topic in topics}

        async def attempt() -> None:
            rows = [
                (topic.name, topic.partitions, topic.replication_factor, NO_PLACEMENT, list(topic.configs.items()))
                for topic in wanted.values()
            ]
            request = CreateTopicsRequest(create_topic_requests=rows, timeout=TIMEOUT_MS, validate_only=False)
            response = await self._client.send(await self._controller(), request)
            for name, code, reason in response.topic_errors:
                if code in {0, TOPIC_EXISTS}:
                    wanted.pop(name, None)  # so that another attempt leaves it alone
                else:
                    raise error_for(code, f"topic={name} {reason or ''}".strip())

        if wanted:
            names = list(wanted)
            await self._try("cannot create topics", attempt, "Create")
            await self._until_topics(names, exist=True)

    async def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics, and return once they are gone; those that do not exist are left alone."""
        wanted = set(topics)

        async def attempt() -> None:
            response = await self._client.send(
                await self._controller(), DeleteTopicsRequest(sorted(wanted), TIMEOUT_MS)
            )
            for name, code in response.topic_error_codes:
                if code not in {0, UNKNOWN_TOPIC}:
                    raise error_for(code, f"topic={name}")

        if wanted:
            await self._try("cannot delete topics", attempt, "Delete")
            await self._until_topics(wanted, exist=False)

    async def topic_configs(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """The configuration of topics, defaults included.

        Raises:
            MissingTopicError: One of them does not exist.
        """

        async def attempt() -> dict[str, dict[str, str]]:
            request = DescribeConfigsRequest([(TOPIC_RESOURCE, name, None) for name in topics], include_synonyms=False)
            response = await self._client.send(self._client.get_random_node(), request)
            found = {}
            for code, reason, _, name, entries in response.resources:
                if code == UNKNOWN_TOPIC:
                    msg = f"topic={name} does not exist"
                    raise MissingTopicError(msg)
                if code:
                    raise error_for(code, f"topic={name} {reason or ''}".strip())
                found[name] = {entry[0]: entry[1] or "" for entry in entries}
            return found

        return await self._try("cannot read topic configurations", attempt, "DescribeConfigs") if topics else {}

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records before the given offsets.

        Raises:
            MissingTopicError: A topic does not exist.
            OffsetOutOfRangeError: An offset lies after the end of the log.
        """

        async def attempt() -> None:
            for node, tps in (await by_leader(self._client, before)).items():
                topics: dict[str, list[tuple[int, int]]] = {}
                for tp in tps:
                    topics.setdefault(tp.topic, []).append((tp.partition, before[tp]))
                response = await self._client.send(node, DeleteRecordsRequest(list(topics.items()), TIMEOUT_MS))
                for topic, partitions, *_tags in response.topics:
                    for partition, _low_watermark, code, *_more in partitions:
                        if code:
                            raise error_for(code, f"topic={topic} partition={partition}")

        if before:
            await self._try("cannot delete records", attempt, "Delete")

    async def beginning_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition that still exists.

        Raises:
            MissingTopicError: One of the topics does not exist.
        """
        return await list_offsets(self._client, dict.fromkeys(tps, EARLIEST))

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition, read uncommitted (KAFKA-10167).

        Raises:
            MissingTopicError: One of the topics does not exist.
        """
        return await list_offsets(self._client, dict.fromkeys(tps, LATEST))

    async def offsets_for_time(self, tps: Collection[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """The first offset whose record is not older than ``timestamp_ms``; the end offset where there is none.

        Raises:
            MissingTopicError: One of the topics does not exist.
        """
        found = await list_offsets(self._client, dict.fromkeys(tps, timestamp_ms))
        newest = [tp for tp, offset in found.items() if offset < 0]
        return found | await self.end_offsets(newest)

    async def groups(self) -> list[str]:
        """Names of all consumer groups, sorted."""

        async def attempt() -> set[str]:
            found = set()
            for node in self._client.cluster.brokers():
                response = await self._client.send(node.nodeId, ListGroupsRequest())
                if response.error_code:
                    raise error_for(response.error_code)
                found |= {name for name, kind in response.groups if kind in {"", "consumer"}}
            return found

        return sorted(await self._try("cannot list consumer groups", attempt))

    async def describe_group(self, group_id: str) -> GroupDescription:
        """State and members of a group; state ``Dead`` when there is none of that name."""

        async def attempt() -> GroupDescription:
            response = await self._to_coordinator(group_id, DescribeGroupsRequest([group_id]))
            code, _, state, _, _, members, *_ = response.groups[0]
            if code == GROUP_NOT_FOUND:
                return GroupDescription(group_id, "Dead", {})
            if code:
                raise error_for(code, f"group={group_id}")
            return GroupDescription(group_id, state, {member_id: host for member_id, _, host, *_ in members})

        return await self._try(f"cannot describe the group {group_id}", attempt)

    async def group_offsets(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """All committed offsets of a group."""

        async def attempt() -> dict[TopicPartition, OffsetAndMetadata]:
            response = await self._to_coordinator(group_id, OffsetFetchV7(group_id, None, require_stable=False))
            if codes := response.codes():
                raise error_for(min(codes), f"group={group_id}")
            return {tp: position for tp, position in response.offsets().items() if position is not None}

        return await self._try(f"cannot read the offsets of the group {group_id}", attempt)

    async def set_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets for a group without members.

        Raises:
            CommitError: The group has members.
        """
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for tp, position in offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, position.offset, position.metadata))

        async def attempt() -> None:
            request = OffsetCommitRequest(group_id, NO_GENERATION, "", COORDINATOR_STORAGE, list(topics.items()))
            response = await self._to_coordinator(group_id, request)
            for topic, partitions in response.topics:
                for partition, code in partitions:
                    if code:
                        raise error_for(code, f"topic={topic} partition={partition}")

        if offsets:
            await self._unless_members(group_id, "set its offsets", attempt)

    async def delete_group(self, group_id: str) -> None:
        """Forget a group without members and its offsets; nothing happens when there is none of that name.

        Raises:
            CommitError: The group has members.
        """

        async def attempt() -> None:
            response = await self._to_coordinator(group_id, DeleteGroupsRequest([group_id]))
            for _, code in response.results:
                if code not in {0, GROUP_NOT_FOUND}:
                    raise error_for(code, f"group={group_id}")

        await self._unless_members(group_id, "delete it", attempt)

    async def _unless_members(self, group_id: str, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._try(f"cannot change the group {group_id}", attempt)
        except CommitError as error:
            msg = f"the group {group_id} has members: stop its workers to {what}"
            raise CommitError(msg) from error

    async def _try(self, doing: str, attempt: Callable[[], Awaitable[Answer]], operation: str = "") -> Answer:
        return await retrying(self._client, doing, attempt, operation=operation)

    async def _controller(self) -> int:
        """The node that takes changes of topics; in KRaft any broker does, and the metadata names one."""
        if self._client.cluster.controller is None:
            await self._client.force_metadata_update()
        controller = self._client.cluster.controller
        if controller is None:
            msg = "the cluster has no controller at the moment"
            raise BrokerUnavailableError(msg)
        node: int = controller.nodeId
        return node

    async def _to_coordinator(self, group_id: str, request: Request) -> Any:
        found = await self._client.send(
            self._client.get_random_node(), FindCoordinatorRequest(group_id, GROUP_COORDINATOR)
        )
        if found.error_code:
            raise error_for(found.error_code, f"group={group_id}")
        return await self._client.send(found.coordinator_id, request)

    async def _until_topics(self, names: Collection[str], *, exist: bool) -> None:
        """Wait until what was done to topics shows in the metadata of the brokers."""

        async def attempt() -> None:
            found = await fetch_topics(self._client, names)
            led = [name for name, topic in found.items() if NO_LEADER not in topic.leaders.values()]
            if len(led) < len(names) if exist else found:
                msg = "they do not show in the metadata yet" if exist else "they still show in the metadata"
                raise StaleMetadata(msg)

        await self._try(f"changing the topics {', '.join(sorted(names))} takes long", attempt)
