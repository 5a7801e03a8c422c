"""Requests that aiokafka lacks, in its own terms: the two versions that KIP-447 needs, and the ids of topics.

`TxnOffsetCommit` v3 carries the generation and the member, so a group that has moved on refuses it;
`OffsetFetch` v7 (require_stable) does not answer while a transaction is pending on the offsets. One without the other
is unsound: either a worker that has lost its tasks commits, or its successor starts from an offset about to change.

`Metadata` v12 tells the id of a topic, which another topic of the same name does not have (KIP-516).

Source: KIP-447, KIP-482 (flexible versions), Kafka's TxnOffsetCommitRequest.json, OffsetFetchRequest.json and
MetadataRequest.json.
"""

import base64
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata

_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_NO_TAGS: dict[int, bytes] = {}
_UNKNOWN_LEADER_EPOCH = -1
_UUID = struct.Struct(">qq")


class TxnOffsetCommitResponseV3(Response):  # type: ignore[misc]
    """Error code of each partition."""

    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    def codes(self) -> dict[TopicPartition, int]:
        """Error code of each partition, 0 for success."""
        return {TopicPartition(topic, part): code for topic, parts, _ in self.topics for part, code, _ in parts}


class TxnOffsetCommitRequestV3(RequestStruct):  # type: ignore[misc]
    """The bytes of `TxnOffsetCommitV3`."""

    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponseV3
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT), _TAGS
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TxnOffsetCommitV3(Request[TxnOffsetCommitRequestV3]):  # type: ignore[misc]
    """Adds consumed offsets to a transaction, fenced by the group's generation."""

    API_KEY = 28

    def __init__(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        group: GroupMetadata,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        by_topic: dict[str, list[tuple[Any, ...]]] = {}
        for tp, position in sorted(offsets.items()):
            row = (tp.partition, position.offset, _UNKNOWN_LEADER_EPOCH, position.metadata, _NO_TAGS)
            by_topic.setdefault(tp.topic, []).append(row)
        producer_id, producer_epoch = producer
        self._fields = (
            transactional_id,
            group.group_id,
            producer_id,
            producer_epoch,
            group.generation,
            group.member_id,
            group.group_instance_id,
            [(topic, rows, _NO_TAGS) for topic, rows in by_topic.items()],
            _NO_TAGS,
        )

    def build(self, request_struct_class: type[TxnOffsetCommitRequestV3]) -> TxnOffsetCommitRequestV3:
        """The request in the version negotiated, of which there is one."""
        return request_struct_class(*self._fields)


class OffsetFetchResponseV7(Response):  # type: ignore[misc]
    """Offset, metadata and error code of each partition."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )

    def codes(self) -> set[int]:
        """The error codes that occur, without success."""
        found = {self.error_code} | {part[4] for _, parts, _ in self.topics for part in parts}
        return found - {0}

    def offsets(self) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """Committed position of each partition, None where nothing is committed."""
        return {
            TopicPartition(topic, part[0]): OffsetAndMetadata(part[1], part[3] or "") if part[1] >= 0 else None
            for topic, parts, _ in self.topics
            for part in parts
        }


class OffsetFetchRequestV7(RequestStruct):  # type: ignore[misc]
    """The bytes of `OffsetFetchV7`."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponseV7
    SCHEMA = Schema(
        ("group_id", _TEXT),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class OffsetFetchV7(Request[OffsetFetchRequestV7]):  # type: ignore[misc]
    """Asks for committed offsets, those that no transaction can change any more if ``require_stable``.

    Args:
        group_id: The group.
        tps: Its partitions, or None for all it has committed.
        require_stable: Answer `UNSTABLE_OFFSET_COMMIT` while a transaction is pending.
    """

    API_KEY = 9

    def __init__(self, group_id: str, tps: Iterable[TopicPartition] | None, *, require_stable: bool) -> None:
        topics = None
        if tps is not None:
            by_topic: dict[str, list[int]] = {}
            for tp in sorted(tps):
                by_topic.setdefault(tp.topic, []).append(tp.partition)
            topics = [(topic, partitions, _NO_TAGS) for topic, partitions in by_topic.items()]
        self._fields = (group_id, topics, require_stable, _NO_TAGS)

    def build(self, request_struct_class: type[OffsetFetchRequestV7]) -> OffsetFetchRequestV7:
        """The request in the version negotiated, of which there is one."""
        return request_struct_class(*self._fields)


class MetadataResponseV12(Response):  # type: ignore[misc]
    """Brokers, and topics with their ids."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    def topic_ids(self) -> dict[str, str]:
        """The id of each topic that exists, as Kafka writes it: 16 bytes in base64."""
        return {
            topic[1]: base64.urlsafe_b64encode(_UUID.pack(topic[2], topic[3])).decode().rstrip("=")
            for topic in self.topics
            if not topic[0]
        }


class MetadataRequestV12(RequestStruct):  # type: ignore[misc]
    """The bytes of `MetadataV12`."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponseV12
    SCHEMA = Schema(
        ("topics", CompactArray(("id_high", Int64), ("id_low", Int64), ("topic", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class MetadataV12(Request[MetadataRequestV12]):  # type: ignore[misc]
    """Asks for metadata of topics, with their ids; brokers know it since Kafka 3.1."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._fields = ([(0, 0, topic, _NO_TAGS) for topic in topics], False, False, _NO_TAGS)

    def build(self, request_struct_class: type[MetadataRequestV12]) -> MetadataRequestV12:
        """The request in the version negotiated, of which there is one."""
        return request_struct_class(*self._fields)
