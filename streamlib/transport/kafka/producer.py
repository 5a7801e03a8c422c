"""The producer of the port: columns go straight into record batches, which a background task sends.

A partition's batch is handed over when it is full, when `flush` asks, or a few milliseconds after its first record;
but while an earlier batch of the partition still waits to be sent, it goes on filling: small batches when there is
little to do, large ones under load.

Next: `sending`, which talks to brokers.
"""

import asyncio
import copy
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from aiokafka.errors import (
    DuplicateSequenceNumber,
    InvalidTxnState,
    KafkaError,
    ProducerClosed,
    TopicAuthorizationFailedError,
)
from aiokafka.producer.transaction_manager import TransactionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamlib.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    CommitError,
    ConfigError,
    DeliveryError,
    RecordRefusedError,
    RecordTooLargeError,
    StreamlibError,
    TransportError,
)
from streamlib.record import Headers, TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata
from streamlib.transport.kafka.client import Connection, KafkaClient
from streamlib.transport.kafka.client_defaults import (
    ACKS,
    BATCH_SIZE,
    BUFFER_BYTES,
    DELIVERY_TIMEOUT_S,
    END_TIMEOUT_S,
    LINGER_S,
    MAX_REQUEST_SIZE,
    NO_COMPRESSION,
    PRODUCER_CLOSE_TIMEOUT_S,
    PRODUCER_START_TIMEOUT_S,
    RETRY_BACKOFF_MS,
    TRANSACTION_TIMEOUT_MS,
    producer_request_timeout_ms,
)
from streamlib.transport.kafka.sending import Accumulator, Sender, TransactionManager
from streamlib.transport.kafka.translation import Caller, describe, translate

logger = logging.getLogger(__name__)

MISSES_UNTIL_MISSING = 20
NO_HEADERS: list[tuple[str, bytes | None]] = []
NO_TIMEOUT_MS = 2**31 - 1
NOT_BEGUN = "append outside of a transaction: call begin() first"


class OpenBatch:
    """The batch of one partition that records are appended to.

    Attributes:
        builder: aiokafka's batch.
        add: Its innermost append: offset in the batch, timestamp, key, value, headers; None when the batch is full.
        rows: How many records it holds.
    """

    __slots__ = ("add", "builder", "rows")

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.add = builder._builder.append
        self.rows = 0


class KafkaProducer:
    """Writes columns to a Kafka cluster, idempotently, and in transactions if it has a transactional id.

    Args:
        connection: How to reach the cluster.
        transactional_id: Fences older producers of the same id; None for no transactions.
        transaction_timeout_ms: The broker aborts a transaction that is open for longer.
        max_request_size: Size in bytes of the largest record.

    Raises:
        ConfigError: A transactional id under ``python -O``: aiokafka guards its transaction states with asserts.
    """

    def __init__(
        self,
        connection: Connection,
        transactional_id: str | None,
        *,
        transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
        max_request_size: int = MAX_REQUEST_SIZE,
    ) -> None:
        if transactional_id is not None and not __debug__:
            msg = "transactions need Python's assert statements: run without -O and without PYTHONOPTIMIZE"
            raise ConfigError(msg)
        self._connection = connection
        self._transactional_id = transactional_id
        self._transaction_timeout_ms = transaction_timeout_ms
        self._max_request_size = max_request_size
        self._alive = False
        self._open: dict[TopicPartition, OpenBatch] = {}
        self._delivered: dict[TopicPartition, int] = {}
        self._known: set[TopicPartition] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._buffered_bytes = 0
        self._in_flight = 0
        self._progress: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._failure: StreamlibError | None = None
        self._refusal: StreamlibError | None = TransportError("this producer is not started")

    async def start(self) -> None:
        """Connect; with a transactional id, fence older producers and end their transactions.

        Raises:
            BrokerUnavailableError: Nobody answers, or the transaction coordinator is not ready.
            ConfigError: Credentials or the transaction timeout are refused.
            TransportError: A permission is missing.
        """
        self._loop = asyncio.get_running_loop()
        in_transactions = None if self._transactional_id is None else self._transaction_timeout_ms
        request_timeout_ms = producer_request_timeout_ms(in_transactions)
        self._client = KafkaClient(
            self._connection, request_timeout_ms=request_timeout_ms, retry_backoff_ms=RETRY_BACKOFF_MS
        )
        await self._client.start()
        self._manager = TransactionManager(self._transactional_id, in_transactions or NO_TIMEOUT_MS)
        self._accumulator = Accumulator(
            self._client.cluster, BATCH_SIZE, NO_COMPRESSION, DELIVERY_TIMEOUT_S, txn_manager=self._manager
        )
        self._sender = Sender(
            self._client,
            acks=ACKS,
            txn_manager=self._manager,
            message_accumulator=self._accumulator,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            request_timeout_ms=request_timeout_ms,
        )
        try:
            async with asyncio.timeout(PRODUCER_START_TIMEOUT_S):
                await self._sender.start()
        except BaseException as error:
            await self._client.close()
            if isinstance(error, KafkaError | TimeoutError | OSError):
                raise translate(error, "cannot start a producer", self._client.caller, "Write") from error
            raise
        self._sender.sender_task.add_done_callback(self._sender_ended)
        self._alive = True
        self._refusal = None if self._transactional_id is None else TransportError(NOT_BEGUN)

    async def close(self) -> None:
        """Disconnect after delivering what was appended; an open transaction is aborted.

        Raises:
            DeliveryError: Something was not delivered, or not within ten seconds.
        """
        if not self._alive:
            return
        try:
            async with asyncio.timeout(PRODUCER_CLOSE_TIMEOUT_S):
                if self._transactional_id is not None:
                    await self.abort()
                else:
                    await self._deliver()
        except (TransportError, TimeoutError) as error:
            if self._transactional_id is None:
                msg = f"a producer was closed with {self._in_flight} batches not acknowledged: {describe(error)}"
                raise DeliveryError(msg) from error
            logger.warning("a transaction is left to its timeout: %s", describe(error))
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Disconnect at once without delivering; used after any error, before a new producer is made."""
        if not self._alive:
            return
        self._alive = False
        self._fail(DeliveryError("this producer was closed"))
        if self._linger is not None:
            self._linger.cancel()
        for check in self._checks:
            check.cancel()
        await self._sender.kill()
        await self._client.close()

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Add a column of records to a partition's buffer; never waits. Sending goes on in the background.

        Costs about 0.3 µs for a record of 75 bytes.

        Raises:
            RecordTooLargeError: A record is larger than the limit. The rows before it are in the buffer, it and those
                after it are not, and the producer can go on.
            DeliveryError: An earlier delivery has failed: the producer must be killed.
        """
        if self._refusal is not None:
            raise self._again()
        assert len(keys) == len(values) == len(timestamps), "the columns of a batch have equal lengths"
        batch = self._open.get(tp) or self._new_batch(tp)
        add, row = batch.add, batch.rows
        # aiokafka wants lists. Without headers there is no end to them.
        listed = map(list, headers) if headers else repeat(NO_HEADERS)
        rows = zip(timestamps, keys, values, listed, strict=False)
        try:
            for timestamp, key, value, heads in rows:
                if row and add(row, timestamp, key, value, heads) is not None:
                    row += 1
                    continue
                if row:  # it is full
                    batch.rows = row
                    self._hand_over(tp, batch)
                    batch = self._new_batch(tp)
                    add, row = batch.add, 0
                # A full-sized record is always the first one of a batch.
                size = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, heads)
                if size > self._max_request_size:
                    raise self._too_large(tp, size, len(keys) - 1 - sum(1 for _ in rows))
                add(0, timestamp, key, value, heads)
                row = 1
        finally:
            batch.rows = row

    async def drain(self) -> None:
        """Return once the buffers are below their limit: called once per batch, so that memory stays bounded.

        Raises:
            DeliveryError: A record was not written.
            BrokerUnavailableError: No batch was acknowledged for two minutes; trying goes on.
        """
        while self._buffered_bytes > BUFFER_BYTES:
            await self._next_progress()

    async def flush(self) -> dict[TopicPartition, int]:
        """Wait until every appended record is acknowledged.

        Returns:
            For each partition written to since the last flush, the offset after its last record.

        Raises:
            DeliveryError: A record was not written. The producer must be killed and replaced.
            BrokerUnavailableError: No batch was acknowledged for two minutes; trying goes on, so flush again.
        """
        await self._deliver()
        delivered, self._delivered = self._delivered, {}
        return delivered

    async def begin(self) -> None:
        """Start a transaction (with a new epoch, if the outcome of any earlier request is not known).

        Raises:
            DeliveryError: The producer must be killed and replaced.
        """
        if self._failure is not None:
            raise self._again()
        self._expect(TransactionState.READY, "begin a transaction")
        if self._client.unanswered:
            self._client.unanswered = False
            self._manager.renew_epoch()
        if not self._manager.has_pid():
            await self._outcome(asyncio.ensure_future(self._manager.wait_for_pid()), "cannot begin a transaction")
        self._manager.begin_transaction()
        self._refusal = None

    async def send_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata) -> None:
        """Deliver everything appended, then add consumed offsets to the transaction; append nothing afterwards.

        Raises:
            CommitError: The group has moved on; abort, and drop the work.
            DeliveryError: A record was not written, or no answer came; kill this producer.
        """
        self._expect(TransactionState.IN_TRANSACTION, "add offsets")
        if group.generation < 0 or not group.member_id:
            msg = (
                f"group={group.group_id} generation={group.generation} is no membership, so brokers would not check it"
            )
            raise CommitError(msg)
        if not offsets:
            msg = "a transaction without offsets is not fenced: add at least one offset of every task that wrote"
            raise TransportError(msg)
        await self._deliver()
        self._refusal = TransportError("append after send_offsets(): the transaction may only be committed or aborted")
        self._sender.group = group
        added = self._manager.add_offsets_to_txn(dict(offsets), group.group_id)
        await self._outcome(added, f"cannot add offsets of the group {group.group_id} to the transaction")

    async def commit(self) -> None:
        """Commit the transaction.

        Raises:
            DeliveryError: It did not commit, or the outcome is not known: kill this producer.
            CommitError: Likewise, and another producer of this transactional id, or the timeout, ended it.
        """
        self._expect(TransactionState.IN_TRANSACTION, "commit")
        await self._deliver()
        self._refusal = TransportError(NOT_BEGUN)
        self._manager.committing_transaction()
        await self._outcome(self._manager.wait_for_transaction_end(), "the transaction may not have been committed")

    async def abort(self) -> None:
        """Abort the transaction; its records are never seen by read_committed readers.

        Nothing happens when there is none, or when the broker has ended it already.

        Raises:
            DeliveryError: The outcome is not known: kill this producer.
        """
        self._open.clear()
        if self._manager.state not in {TransactionState.IN_TRANSACTION, TransactionState.ABORTABLE_ERROR}:
            return
        self._refusal = self._failure or TransportError(NOT_BEGUN)
        self._manager.aborting_transaction()
        await self._outcome(self._manager.wait_for_transaction_end(), "cannot abort the transaction")
        self._delivered.clear()

    def _new_batch(self, tp: TopicPartition) -> OpenBatch:
        if tp not in self._known:
            self._known.add(tp)
            self._client.add_topic(tp.topic)
            if self._client.cluster.leader_for_partition(tp) is None:
                check = self._loop.create_task(self._check_partition(tp))
                self._checks.add(check)
                check.add_done_callback(self._checks.discard)
        batch = self._open[tp] = OpenBatch(self._accumulator.create_builder())
        if self._linger is None:
            self._linger = self._loop.call_later(LINGER_S, self._linger_over)
        return batch

    def _too_large(self, tp: TopicPartition, size: int, row: int) -> RecordTooLargeError:
        return RecordTooLargeError(
            f"topic={tp.topic} partition={tp.partition}: a record of {size} bytes is larger than the limit of "
            f"{self._max_request_size} bytes (max_request_size). Raise it together with the topic's "
            "max.message.bytes, or write smaller records",
            row,
        )

    async def _check_partition(self, tp: TopicPartition) -> None:
        """Fail early when a partition does not exist, where aiokafka would wait for its leader."""
        cluster, misses = self._client.cluster, 0
        while cluster.leader_for_partition(tp) is None:
            if tp.topic in cluster.unauthorized_topics:
                refused = TopicAuthorizationFailedError(tp.topic)
                self._fail(translate(refused, "cannot write", self._client.caller, "Write"))
                return
            misses += bool(await self._client.force_metadata_update())  # an answer, and not in it
            if misses > MISSES_UNTIL_MISSING:
                self._fail(DeliveryError(f"topic={tp.topic} partition={tp.partition} does not exist: create it first"))
                return

    def _linger_over(self) -> None:
        """Hand over what has lain long enough, except where it would only wait behind an earlier batch."""
        self._linger = None
        if self._failure is not None:
            return
        for tp in [tp for tp in self._open if not self._accumulator.queued(tp)]:
            self._hand_over(tp, self._open.pop(tp))
        if self._open:
            self._linger = self._loop.call_later(LINGER_S, self._linger_over)

    def _hand_over(self, tp: TopicPartition, batch: OpenBatch) -> None:
        if not batch.rows:
            return
        batch.builder._relative_offset = batch.rows
        size = batch.builder.size()
        try:
            answer = self._accumulator.add(batch.builder, tp)
        except KafkaError as error:
            self._fail(_lost(tp, batch.rows, size, error, self._client.caller))
            return
        self._buffered_bytes += size
        self._in_flight += 1
        answer.add_done_callback(partial(self._answered, tp, batch.rows, size))

    def _answered(self, tp: TopicPartition, rows: int, size: int, answer: asyncio.Future[Any]) -> None:
        self._buffered_bytes -= size
        self._in_flight -= 1
        error = ProducerClosed() if answer.cancelled() else answer.exception()
        if error is None and (offset := answer.result().offset) >= 0:
            self._delivered[tp] = offset + rows
            self._tell_progress()
        else:  # a repeated batch that the broker has had, but no longer knows where: offsets after it cannot be told
            if isinstance(error, InvalidTxnState) and self._manager.state is TransactionState.ABORTABLE_ERROR:
                error = self._manager.error  # why its partition is not in the transaction
            self._fail(_lost(tp, rows, size, error or DuplicateSequenceNumber(), self._client.caller))

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = DeliveryError(f"the producer cannot go on: {describe(error)}")
            failure.__cause__ = error
            self._fail(failure)

    def _fail(self, failure: StreamlibError) -> None:
        if self._failure is None:
            self._failure = self._refusal = failure
        self._tell_progress()

    def _again(self) -> StreamlibError:
        """The refusal in force, as an exception of its own for each who hears it."""
        assert self._refusal is not None
        told = copy.copy(self._refusal)
        told.__cause__ = self._refusal.__cause__
        return told

    def _expect(self, state: TransactionState, doing: str) -> None:
        if self._failure is not None:
            raise self._again()
        if self._transactional_id is None or self._manager.state is not state:
            now = self._manager.state.name.lower().replace("_", " ")
            msg = f"cannot {doing}: transactional_id={self._transactional_id}, state is {now}"
            raise TransportError(msg)

    async def _deliver(self) -> None:
        opened, self._open = self._open, {}
        for tp, batch in opened.items():
            self._hand_over(tp, batch)
        while self._in_flight:
            await self._next_progress()
        if self._failure is not None:
            raise self._again()

    async def _next_progress(self) -> None:
        if self._failure is not None:
            raise self._again()
        if self._progress is None:
            self._progress = self._loop.create_future()
        done, _ = await asyncio.wait([self._progress], timeout=DELIVERY_TIMEOUT_S)
        if not done:
            msg = f"no broker acknowledged a batch for {DELIVERY_TIMEOUT_S:.0f} s; {self._in_flight} batches wait"
            raise BrokerUnavailableError(msg)

    def _tell_progress(self) -> None:
        told, self._progress = self._progress, None
        if told is not None and not told.done():
            told.set_result(None)

    async def _outcome(self, answer: asyncio.Future[Any], doing: str) -> None:
        """Wait for a step of the transaction; an error other than the group's refusal makes this producer useless."""
        answer.add_done_callback(_retrieve)
        waited: set[asyncio.Future[Any]] = {answer, self._sender.sender_task}
        await asyncio.wait(waited, timeout=END_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() and not answer.cancelled():
            error = answer.exception()
            if error is None:
                return
        else:
            task = self._sender.sender_task
            error = task.exception() if task.done() and not task.cancelled() else TimeoutError("no answer in time")
        assert error is not None
        told = translate(error, f"transactional_id={self._transactional_id}: {doing}", self._client.caller, "Write")
        failure = _failure(told)
        if not isinstance(error, CommitError):
            self._fail(failure)
        raise (told if isinstance(told, CommitError) else failure) from error


def _lost(tp: TopicPartition, rows: int, size: int, error: BaseException, caller: Caller) -> StreamlibError:
    """What became of a batch."""
    if isinstance(error, TopicAuthorizationFailedError) and not error.args:
        error = TopicAuthorizationFailedError(tp.topic)  # of the broker's answer aiokafka keeps the code only
    doing = f"topic={tp.topic} partition={tp.partition}: {rows} records ({size} bytes) were not written"
    told = translate(error, doing, caller, "Write")
    lost = _failure(told)
    lost.__cause__ = error
    return lost


def _failure(told: StreamlibError) -> StreamlibError:
    """A `DeliveryError`, after which another producer may do better, unless no other could."""
    return told if isinstance(told, AuthorizationError | RecordRefusedError) else DeliveryError(str(told))


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
