"""aiokafka's producer machinery, mended for exactly-once: what a transactional producer of a worker must not do.

- It committed offsets without the group's generation, so a worker that had lost its tasks could still commit
  (KIP-447): `Sender` commits with TxnOffsetCommit v3.
- It committed a transaction of which a batch was lost: `Sender` refuses.
- Its abort after an error told the broker nothing, so the next commit published the aborted records:
  `TransactionManager` remembers what joined.
- After a request without an answer it went on under the same producer epoch, so that a late duplicate of the request
  could end a later transaction: `TransactionManager.renew_epoch`.
- Its sequence numbers wrapped to negative ones, which brokers refuse.

With `client`, `columns` and `membership` one of the four modules that use aiokafka's private names. Next: `producer`.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, ProducerClosed, ProducerFenced
from aiokafka.producer import message_accumulator, sender, transaction_manager
from aiokafka.producer.transaction_manager import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    PidAndEpoch,
    TransactionResult,
    TransactionState,
)
from aiokafka.util import create_future

from streamlib.errors import CommitError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata
from streamlib.transport.kafka.error_codes import FENCED_CODES, MIGRATED_CODES, RETRIABLE_CODES
from streamlib.transport.kafka.protocol import TxnOffsetCommitV3
from streamlib.transport.kafka.translation import error_for, refusal

LAST_SEQUENCE = 2**31 - 1
KILL_TIMEOUT_S = 1.0


class TransactionManager(transaction_manager.TransactionManager):  # type: ignore[misc]
    """States, epoch and sequence numbers of a producer.

    Attributes:
        error: Why the current transaction can only be aborted.
    """

    error: Exception | None = None
    state: TransactionState
    _transaction_waiter: asyncio.Future[None] | None
    _txn_partitions: set[TopicPartition]
    _txn_consumer_group: str | None

    def increment_sequence_number(self, tp: TopicPartition, increment: int) -> None:
        """After the last sequence number comes 0, as in Java's ``DefaultRecordBatch.incrementSequence``."""
        following = self._sequence_numbers[tp] + increment
        self._sequence_numbers[tp] = following if following <= LAST_SEQUENCE else following - LAST_SEQUENCE - 1

    def error_transaction(self, exc: Exception) -> None:
        """Note an error after which the transaction can only be aborted, and keep what an abort must end."""
        if self.state is TransactionState.ABORTABLE_ERROR:
            return
        self.error = exc
        partitions, group = set(self._txn_partitions), self._txn_consumer_group
        super().error_transaction(exc)
        self._txn_partitions, self._txn_consumer_group = partitions, group
        _retrieve(self._transaction_waiter)

    def fatal_error(self, exc: Exception) -> None:
        """Note an error after which this producer is of no use."""
        if self._transaction_waiter is None:
            self._transaction_waiter = create_future()
        super().fatal_error(exc)
        _retrieve(self._transaction_waiter)

    def renew_epoch(self) -> None:
        """Between transactions: go back to where the broker is asked for an epoch, which fences late requests."""
        assert self.state is TransactionState.READY
        self._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)
        self._pid_waiter = create_future()
        self._sequence_numbers.clear()
        self.state = TransactionState.UNINITIALIZED
        self.notify_task_waiter()


class Batch(message_accumulator.MessageBatch):  # type: ignore[misc]
    """A batch on its way, whose failure is told once, by its future."""

    def failure(self, exception: Exception) -> None:
        """Give up."""
        super().failure(exception)
        _retrieve(self._drain_waiter)


class Accumulator(message_accumulator.MessageAccumulator):  # type: ignore[misc]
    """Batches waiting to be sent.

    Attributes:
        failure: What became of the first batch that was not delivered.
    """

    failure: BaseException | None = None

    def add(self, builder: Any, tp: TopicPartition) -> asyncio.Future[Any]:
        """Queue a batch; its future ends when the broker has answered for it.

        Raises:
            KafkaError: The sender has died, or the transaction has failed.
        """
        if self._exception is not None:
            raise self._exception
        manager = self._txn_manager
        if manager.state is TransactionState.ABORTABLE_ERROR:
            raise manager.error
        builder.close()
        manager.maybe_add_partition_to_txn(tp)
        batch = Batch(tp, builder, self._batch_ttl, self._linger_time)
        batch.future.add_done_callback(self._note)
        self._batches[tp].append(batch)
        self._wakeup(self._waiter_future)
        future: asyncio.Future[Any] = batch.future
        return future

    def queued(self, tp: TopicPartition) -> bool:
        """Whether a batch of the partition has not been sent yet."""
        return bool(self._batches.get(tp))

    def _note(self, future: asyncio.Future[Any]) -> None:
        error = ProducerClosed() if future.cancelled() else future.exception()
        if error is not None and self.failure is None:
            self.failure = error


class TxnOffsetCommitHandler(sender.TxnOffsetCommitHandler):  # type: ignore[misc]
    """Commits offsets within a transaction as one member of one generation."""

    def __init__(self, owner: "Sender", offsets: Mapping[Any, OffsetAndMetadata], group: GroupMetadata) -> None:
        super().__init__(owner, offsets, group.group_id)
        self._member = group

    def create_request(self) -> TxnOffsetCommitV3:
        """The request, in the version that carries the generation."""
        manager = self._sender._txn_manager
        producer = (manager.producer_id, manager.producer_epoch)
        return TxnOffsetCommitV3(manager.transactional_id, producer, self._member, self._offsets)

    def handle_response(self, response: Any) -> float | None:
        """Seconds until another attempt, None when there is nothing more to do."""
        manager, by_partition = self._sender._txn_manager, response.codes()
        codes = set(by_partition.values()) - {0}
        if codes & FENCED_CODES:
            raise ProducerFenced
        if codes & MIGRATED_CODES:
            manager.error_transaction(CommitError(refusal(self._member, codes & MIGRATED_CODES)))
            return None
        if codes and codes <= RETRIABLE_CODES:
            self._sender._coordinator_dead(CoordinationType.GROUP)
            return float(self._default_backoff)
        if codes:
            manager.error_transaction(error_for(min(codes - RETRIABLE_CODES), f"group={self._member.group_id}"))
            return None
        for tp, position in list(self._offsets.items()):
            manager.offset_committed(tp, position.offset, self._member.group_id)
        return None


class Sender(sender.Sender):  # type: ignore[misc]
    """The background task that talks to brokers.

    Attributes:
        group: The membership under which offsets are added to the current transaction.
    """

    group: GroupMetadata | None = None

    def __init__(self, client: Any, **settings: Any) -> None:
        super().__init__(client, **settings)
        self._requests: set[asyncio.Task[Any]] = set()

    async def kill(self) -> None:
        """End at once, requests included: none of them may go on to talk to a broker."""
        self._message_accumulator.fail_all(ProducerClosed())
        tasks = set(self._requests)
        if self._sender_task is not None:
            tasks.add(self._sender_task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=KILL_TIMEOUT_S)

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            yield
        finally:
            self._requests.discard(task)

    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        with self._tracked():
            await super()._send_produce_req(node_id, batches)

    async def _do_add_partitions_to_txn(self, tps: Any) -> Any:
        with self._tracked():
            return await super()._do_add_partitions_to_txn(tps)

    async def _do_add_offsets_to_txn(self, group_id: str) -> Any:
        with self._tracked():
            return await super()._do_add_offsets_to_txn(group_id)

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        with self._tracked():
            assert self.group is not None
            try:
                node = await self._find_coordinator(CoordinationType.GROUP, group_id)
            except KafkaError as error:
                self._txn_manager.error_transaction(error)
                return
            await TxnOffsetCommitHandler(self, offsets, self.group).do(node)

    async def _do_txn_commit(self, commit_result: TransactionResult) -> None:
        with self._tracked():
            accumulator = self._message_accumulator
            await accumulator.flush_for_commit()
            if commit_result == TransactionResult.COMMIT and accumulator.failure is not None:
                self._txn_manager.error_transaction(accumulator.failure)
                return
            await super()._do_txn_commit(commit_result)


def _retrieve(future: asyncio.Future[None] | None) -> None:
    """Mark the exception of a future as seen: it is told elsewhere."""
    if future is not None and future.done() and not future.cancelled():
        future.exception()
