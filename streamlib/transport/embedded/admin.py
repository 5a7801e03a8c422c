"""Topics, offsets and groups of an embedded broker, for the worker's set-up and for the command line."""

import socket
from collections.abc import Collection, Mapping

from streamlib.errors import CommitError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupDescription, OffsetAndMetadata, TopicSpec
from streamlib.transport.embedded.broker import Broker, Store


class EmbeddedAdmin:
    """Looks at and changes an embedded broker; see `Admin` for what each method promises."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def close(self) -> None:
        """Nothing to disconnect."""

    async def partition_counts(self, topics: Collection[str] | None = None) -> dict[str, int]:
        """Partition counts of those that exist, or of all."""
        return await self._broker.read(lambda store: store.topics.partition_counts(topics))

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The ids of those that exist."""
        return await self._broker.read(lambda store: store.topics.ids(topics))

    async def create_topics(self, topics: Collection[TopicSpec]) -> None:
        """Create those that do not exist."""

        def job(store: Store) -> dict[str, int]:
            store.topics.create(topics)
            return store.topics.max_message_bytes()

        self._broker.max_message_bytes = await self._broker.write(job)
        self._broker.changed.ring()

    async def delete_topics(self, topics: Collection[str]) -> None:
        """Delete those that exist."""
        await self._broker.write(lambda store: store.topics.delete(topics))
        self._broker.changed.ring()
        await self._broker.purge()

    async def topic_configs(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """Configurations, defaults included."""
        return await self._broker.read(lambda store: store.topics.configs(topics))

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records before the given offsets."""

        def job(store: Store) -> None:
            for tp, offset in before.items():
                store.log.delete_before(tp, offset)

        await self._broker.write(job)
        await self._broker.purge()

    async def beginning_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        found = await self._broker.read(lambda store: store.topics.find(tps))
        return {tp: partition.start_offset for tp, partition in found.items()}

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record, open transactions included."""
        found = await self._broker.read(lambda store: store.topics.find(tps))
        return {tp: partition.end_offset for tp, partition in found.items()}

    async def offsets_for_time(self, tps: Collection[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """The first offsets that are not older."""
        return await self._broker.read(
            lambda store: {tp: store.log.offset_for_time(tp, timestamp_ms) for tp in tps},
        )

    async def groups(self) -> list[str]:
        """Groups with members or with offsets."""
        kept = await self._broker.read(lambda store: store.offsets.groups())
        return sorted({*kept, *self._broker.groups()})

    async def describe_group(self, group_id: str) -> GroupDescription:
        """State and members."""
        state, members = self._broker.members(group_id)
        if not members:
            kept = await self._broker.read(lambda store: store.offsets.committed(group_id))
            state = "Empty" if kept else "Dead"
        return GroupDescription(group_id, state, dict.fromkeys(members, socket.gethostname()))

    async def group_offsets(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """All committed offsets."""
        return await self._broker.read(lambda store: store.offsets.committed(group_id))

    async def set_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets for a group without members."""
        self._refuse_members(group_id, "its offsets cannot be set")
        await self._broker.write(lambda store: store.offsets.commit(group_id, offsets))

    async def delete_group(self, group_id: str) -> None:
        """Forget a group without members."""
        self._refuse_members(group_id, "it cannot be deleted")
        await self._broker.write(lambda store: store.offsets.delete(group_id))

    def _refuse_members(self, group_id: str, refused: str) -> None:
        _, members = self._broker.members(group_id)
        if members:
            msg = f"group={group_id} has members ({', '.join(members)}), {refused}: stop its workers first"
            raise CommitError(msg)
