"""Transactions and transactional ids in the database. Next: `offsets`, which transactions commit with their records."""

from collections.abc import Mapping

from streamlib.errors import DeliveryError
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata
from streamlib.transport.embedded.database import Database


class Transactions:
    """Open transactions; every method runs inside a transaction of the database.

    A transactional id has an epoch, which grows when a producer starts with the id and when its transaction runs out
    of time. Whoever comes with an older epoch is refused.
    """

    def __init__(self, database: Database) -> None:
        self._connection = database.connection

    def start_producer(self, transactional_id: str) -> int:
        """End what an earlier producer with this id left open, and return the new epoch."""
        self._abort_open(transactional_id)
        self._connection.execute("INSERT OR IGNORE INTO producers VALUES (?, -1)", (transactional_id,))
        self._connection.execute(
            "UPDATE producers SET epoch = epoch + 1 WHERE transactional_id = ?", (transactional_id,)
        )
        (epoch,) = self._connection.execute(
            "SELECT epoch FROM producers WHERE transactional_id = ?", (transactional_id,)
        ).fetchone()
        return int(epoch)

    def open(self, transactional_id: str, epoch: int, expires_ms: int) -> int:
        """The id of the producer's open transaction, begun when there is none.

        Raises:
            DeliveryError: Another producer has the transactional id now, or the last transaction took too long.
        """
        self._refuse_fenced(transactional_id, epoch)
        self._connection.execute(
            "INSERT OR IGNORE INTO transactions (transactional_id, expires_ms) VALUES (?, ?)",
            (transactional_id, expires_ms),
        )
        found = self._find(transactional_id)
        assert found is not None
        return found

    def add_offsets(
        self, transaction_id: int, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> None:
        """Let the transaction commit a group's offsets."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO pending_offsets VALUES (?, ?, ?, ?, ?, ?)",
            [(transaction_id, group_id, *tp, kept.offset, kept.metadata) for tp, kept in offsets.items()],
        )

    def commit(self, transactional_id: str, epoch: int) -> None:
        """Show the open transaction's records and offsets; nothing happens when none is open.

        Raises:
            DeliveryError: As for `open`.
        """
        self._refuse_fenced(transactional_id, epoch)
        transaction_id = self._find(transactional_id)
        if transaction_id is None:
            return
        self._connection.execute(
            "INSERT OR REPLACE INTO committed_offsets"
            " SELECT group_id, topic, partition, next_offset, metadata FROM pending_offsets WHERE transaction_id = ?",
            (transaction_id,),
        )
        self._end(transaction_id)

    def abort(self, transactional_id: str, epoch: int) -> None:
        """Remove the open transaction's records and offsets; nothing happens when it was aborted already."""
        row = self._connection.execute(
            "SELECT epoch FROM producers WHERE transactional_id = ?", (transactional_id,)
        ).fetchone()
        if row == (epoch,):
            self._abort_open(transactional_id)

    def overdue(self, now_ms: int) -> bool:
        """Whether an open transaction has run out of time."""
        (first,) = self._connection.execute("SELECT min(expires_ms) FROM transactions").fetchone()
        return first is not None and first <= now_ms

    def abort_overdue(self, now_ms: int) -> None:
        """Abort the transactions that have run out of time, and refuse their producers from now on."""
        rows = self._connection.execute(
            "SELECT transactional_id FROM transactions WHERE expires_ms <= ?", (now_ms,)
        ).fetchall()
        for (transactional_id,) in rows:
            self.start_producer(transactional_id)

    def _refuse_fenced(self, transactional_id: str, epoch: int) -> None:
        row = self._connection.execute(
            "SELECT epoch FROM producers WHERE transactional_id = ?", (transactional_id,)
        ).fetchone()
        if row != (epoch,):
            msg = (
                f"the producer with transactional id {transactional_id} is fenced: another one was started with the "
                "same id, or its transaction took too long; drop this one and its work"
            )
            raise DeliveryError(msg)

    def _find(self, transactional_id: str) -> int | None:
        row = self._connection.execute(
            "SELECT id FROM transactions WHERE transactional_id = ?", (transactional_id,)
        ).fetchone()
        return None if row is None else int(row[0])

    def _abort_open(self, transactional_id: str) -> None:
        transaction_id = self._find(transactional_id)
        if transaction_id is None:
            return
        touched = self._connection.execute(
            "SELECT partition_id, first_offset FROM open_partitions WHERE transaction_id = ?", (transaction_id,)
        ).fetchall()
        self._connection.executemany(
            "DELETE FROM batches WHERE partition_id = ? AND next_offset > ? AND transaction_id = ?",
            [(*row, transaction_id) for row in touched],
        )
        self._end(transaction_id)

    def _end(self, transaction_id: int) -> None:
        self._connection.execute(
            "UPDATE partitions SET end_offset = end_offset + 1"
            " WHERE id IN (SELECT partition_id FROM open_partitions WHERE transaction_id = ?)",
            (transaction_id,),
        )
        for table in ("open_partitions", "pending_offsets"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE transaction_id = ?",  # noqa: S608
                (transaction_id,),
            )
        self._connection.execute("DELETE FROM transactions WHERE id = ?", (transaction_id,))
