"""Committed offsets of groups in the database. Next: `broker`, the door to all of it."""

from collections.abc import Collection, Mapping

from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata
from streamlib.transport.embedded.database import Database


class Offsets:
    """Offsets by group and partition; every method runs inside a transaction of the database."""

    def __init__(self, database: Database) -> None:
        self._connection = database.connection

    def commit(self, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Keep offsets for a group."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO committed_offsets VALUES (?, ?, ?, ?, ?)",
            [(group_id, *tp, kept.offset, kept.metadata) for tp, kept in offsets.items()],
        )

    def committed(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """All offsets of a group."""
        rows = self._connection.execute(
            "SELECT topic, partition, next_offset, metadata FROM committed_offsets"
            " WHERE group_id = ? ORDER BY topic, partition",
            (group_id,),
        )
        return {TopicPartition(topic, p): OffsetAndMetadata(offset, metadata) for topic, p, offset, metadata in rows}

    def pending(self, group_id: str, tps: Collection[TopicPartition]) -> bool:
        """Whether an open transaction may still change one of these offsets."""
        rows = self._connection.execute("SELECT topic, partition FROM pending_offsets WHERE group_id = ?", (group_id,))
        return not set(tps).isdisjoint(rows.fetchall())

    def groups(self) -> list[str]:
        """Groups that have offsets."""
        rows = self._connection.execute("SELECT DISTINCT group_id FROM committed_offsets ORDER BY group_id")
        return [group_id for (group_id,) in rows]

    def delete(self, group_id: str) -> None:
        """Forget a group's offsets."""
        self._connection.execute("DELETE FROM committed_offsets WHERE group_id = ?", (group_id,))
