"""Topics and partitions in the database. Next: `log`, the records in them."""

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

from streamlib.errors import MissingTopicError, TransportError
from streamlib.record import TopicPartition
from streamlib.transport.base import TopicSpec
from streamlib.transport.embedded.database import Database

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
DEFAULT_CONFIGS = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "delete.retention.ms": "86400000",
    "max.message.bytes": str(DEFAULT_MAX_MESSAGE_BYTES),
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.ms": "604800000",
}
"""Kafka's defaults; those about cleaning are kept and shown but not acted on."""


class Partition(NamedTuple):
    """A partition as the database knows it; the id is never used again after its topic was deleted."""

    id: int
    start_offset: int
    end_offset: int
    max_message_bytes: int


def missing(topics: Iterable[str]) -> MissingTopicError:
    """The error that names topics which do not exist."""
    named = ", ".join(sorted(topics))
    return MissingTopicError(f"topic={named} does not exist: create it first, or check its name")


def _limit_bytes(topic: TopicSpec) -> int:
    limit = topic.configs.get("max.message.bytes", DEFAULT_CONFIGS["max.message.bytes"])
    if not limit.isdecimal():
        msg = f"topic={topic.name} cannot have max.message.bytes={limit}: give a number of bytes"
        raise TransportError(msg)
    return int(limit)


class Topics:
    """Topics by name; every method runs inside a transaction of the database."""

    def __init__(self, database: Database) -> None:
        self._connection = database.connection

    def create(self, topics: Collection[TopicSpec]) -> None:
        """Create those that do not exist yet."""
        for topic in topics:
            if topic.partitions < 1:
                msg = f"topic={topic.name} cannot have {topic.partitions} partitions: ask for at least one"
                raise TransportError(msg)
            made = self._connection.execute(
                "INSERT OR IGNORE INTO topics VALUES (?, ?, ?)",
                (topic.name, json.dumps(dict(topic.configs)), _limit_bytes(topic)),
            )
            if made.rowcount:
                self._connection.executemany(
                    "INSERT INTO partitions (topic, partition) VALUES (?, ?)",
                    [(topic.name, partition) for partition in range(topic.partitions)],
                )

    def delete(self, topics: Collection[str]) -> None:
        """Delete those that exist, with the offsets groups have committed on them; their records become garbage."""
        for topic in topics:
            self._connection.execute(
                "INSERT OR REPLACE INTO garbage SELECT id, end_offset FROM partitions WHERE topic = ?", (topic,)
            )
            for table in ("partitions", "committed_offsets", "pending_offsets"):
                self._connection.execute(f"DELETE FROM {table} WHERE topic = ?", (topic,))  # noqa: S608
            self._connection.execute("DELETE FROM topics WHERE name = ?", (topic,))

    def partition_counts(self, topics: Collection[str] | None) -> dict[str, int]:
        """Partition counts of those that exist, or of all."""
        rows = self._connection.execute("SELECT topic, count(*) FROM partitions GROUP BY topic ORDER BY topic")
        wanted = None if topics is None else set(topics)
        return {topic: count for topic, count in rows if wanted is None or topic in wanted}

    def ids(self, topics: Collection[str]) -> dict[str, str]:
        """For each of those that exist the id of its first partition, which no other topic ever has."""
        rows = self._connection.execute("SELECT topic, id FROM partitions WHERE partition = 0")
        wanted = set(topics)
        return {topic: str(number) for topic, number in rows if topic in wanted}

    def configs(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """Configurations with the defaults filled in."""
        found = {}
        for topic in topics:
            row = self._connection.execute("SELECT configs FROM topics WHERE name = ?", (topic,)).fetchone()
            if row is not None:
                found[topic] = DEFAULT_CONFIGS | json.loads(row[0])
        if absent := set(topics).difference(found):
            raise missing(absent)
        return found

    def max_message_bytes(self) -> dict[str, int]:
        """How large the records of each topic may be."""
        return dict(self._connection.execute("SELECT name, max_message_bytes FROM topics"))

    def find(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, Partition]:
        """The rows of partitions.

        Raises:
            MissingTopicError: One does not exist.
        """
        found = {}
        for tp in tps:
            row = self._connection.execute(
                "SELECT id, start_offset, end_offset, max_message_bytes FROM partitions JOIN topics ON name = topic"
                " WHERE topic = ? AND partition = ?",
                tp,
            ).fetchone()
            if row is None:
                raise missing([tp.topic if self.partition_counts([tp.topic]) == {} else f"{tp.topic}[{tp.partition}]"])
            found[tp] = Partition(*row)
        return found
