"""The writing side of an embedded broker. Next: `log`, where the columns go."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from streamlib.clock import Clock
from streamlib.errors import CommitError, DeliveryError, RecordRefusedError, RecordTooLargeError, TransportError
from streamlib.record import Headers, TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata
from streamlib.transport.embedded.broker import Broker, Store
from streamlib.transport.embedded.columns import Columns, cut
from streamlib.transport.embedded.log import Slice, refuse_larger, size_bytes
from streamlib.transport.embedded.topics import DEFAULT_MAX_MESSAGE_BYTES

T = TypeVar("T")

_LINGER_SECONDS = 0.005
_BUFFER_BYTES = 1024 * 1024
_BUFFER_RECORDS = 16_384
_HEADER_BYTES = 32
"""What each record is taken to cost besides its bytes, when the buffer is bounded."""


class _Buffer:
    """Records of one partition that are not written yet."""

    __slots__ = ("columns", "size_bytes")

    def __init__(self) -> None:
        self.columns = Columns([], [], [], None)
        self.size_bytes = 0

    def add(self, added: Columns, added_bytes: int) -> None:
        keys, values, timestamps, headers = self.columns
        if added.headers is not None and headers is None:
            headers = [()] * len(keys)
        keys += added.keys
        values += added.values
        timestamps += added.timestamps
        if headers is not None:
            headers += added.headers or [()] * len(added.keys)
        self.columns = Columns(keys, values, timestamps, headers)
        self.size_bytes += added_bytes


class EmbeddedProducer:
    """Writes columns to an embedded broker; see `Producer` for what each method promises.

    Appended columns gather in a buffer for each partition; a background task writes all buffers in one transaction of
    the database, soon after the first `append` or when `drain` finds them full.

    Args:
        broker: Where to write.
        clock: This process's time.
        transactional_id: Fences older producers of the same id.
        transaction_timeout_ms: The broker aborts a transaction that is open for longer.
    """

    def __init__(
        self, broker: Broker, clock: Clock, transactional_id: str | None, transaction_timeout_ms: int = 10_000
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._transactional_id = transactional_id
        self._transaction_timeout_ms = transaction_timeout_ms
        self._epoch = -1
        self._in_transaction = False
        self._offsets_sent = False
        self._dead = False
        self._failure: BaseException | None = None
        self._buffers: dict[TopicPartition, _Buffer] = {}
        self._buffered = 0
        self._ends: dict[TopicPartition, int] = {}
        self._writing = asyncio.Lock()
        self._sender: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over the transactional id."""
        transactional_id = self._transactional_id
        if transactional_id is not None:
            self._epoch = await self._broker.write(lambda store: store.transactions.start_producer(transactional_id))

    async def close(self) -> None:
        """Deliver what was appended outside transactions, abort an open one."""
        try:
            if self._in_transaction:
                await self.abort()
            elif self._failure is None and not self._dead:
                await self.flush()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Forget everything that is not written."""
        self._dead = True
        self._buffers = {}
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Add a column of records to a partition's buffer."""
        self._refuse_after_failure()
        if self._transactional_id is not None and not self._in_transaction:
            msg = f"the producer with transactional id {self._transactional_id} is in no transaction: begin() one first"
            raise DeliveryError(msg)
        if self._offsets_sent:
            msg = "append after send_offsets(): the transaction may only be committed or aborted"
            raise TransportError(msg)
        if not keys:
            return
        columns = Columns(list(keys), list(values), list(timestamps), None if headers is None else list(headers))
        assert len(columns.keys) == len(columns.values) == len(columns.timestamps), "columns of unequal length"
        added_bytes = size_bytes(columns.keys, columns.values, columns.headers)
        if added_bytes > DEFAULT_MAX_MESSAGE_BYTES:
            # A topic that another process made is not known here; then the log refuses, at the next write.
            limit_bytes = self._broker.max_message_bytes.get(tp.topic)
            if limit_bytes is not None:
                try:
                    refuse_larger(tp, columns, limit_bytes)
                except RecordTooLargeError as error:
                    self._add(tp, cut(columns, 0, error.row))
                    raise
        self._add(tp, columns, added_bytes)

    def _add(self, tp: TopicPartition, columns: Columns, added_bytes: int | None = None) -> None:
        if not columns.keys:
            return
        if added_bytes is None:
            added_bytes = size_bytes(columns.keys, columns.values, columns.headers)
        buffer = self._buffers.get(tp)
        if buffer is None:
            buffer = self._buffers[tp] = _Buffer()
        buffer.add(columns, added_bytes)
        self._buffered += added_bytes + _HEADER_BYTES * len(columns.keys)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send_soon())

    async def drain(self) -> None:
        """Write the buffers if they are full."""
        if self._buffered >= _BUFFER_BYTES:
            await self._write()
            # In memory nothing above waits, and others on the loop must get their turn.
            await self._clock.sleep(0)

    async def flush(self) -> dict[TopicPartition, int]:
        """Write the buffers.

        Returns:
            End offsets of the partitions written to since the last flush.
        """
        await self._write()
        ends, self._ends = self._ends, {}
        return ends

    async def begin(self) -> None:
        """Start a transaction; the broker hears of it with the first write."""
        self._refuse_after_failure()
        assert self._transactional_id is not None, "begin() needs a producer with a transactional id"
        assert not self._in_transaction, "begin() inside a transaction"
        self._in_transaction, self._offsets_sent = True, False

    async def send_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata) -> None:
        """Write the buffers, then add offsets to the transaction."""
        await self._write()
        self._offsets_sent = True
        members = self._broker.group(group.group_id)

        def job(store: Store) -> None:
            members.check(group)
            store.transactions.add_offsets(self._open(store), group.group_id, offsets)

        await self._deliver(job)

    async def commit(self) -> None:
        """Write the buffers, then commit the transaction."""
        await self._write()
        transactional_id, epoch = self._transactional_id, self._epoch
        assert transactional_id is not None, "commit() needs a producer with a transactional id"
        assert self._in_transaction, "commit() outside a transaction"
        await self._deliver(lambda store: store.transactions.commit(transactional_id, epoch))
        self._in_transaction = self._offsets_sent = False

    async def abort(self) -> None:
        """Forget the buffers and abort the transaction."""
        transactional_id, epoch = self._transactional_id, self._epoch
        assert transactional_id is not None, "abort() needs a producer with a transactional id"
        async with self._writing:
            self._buffers, self._buffered, self._ends = {}, 0, {}
            await self._broker.write(lambda store: store.transactions.abort(transactional_id, epoch))
        self._in_transaction = self._offsets_sent = False

    async def _send_soon(self) -> None:
        while self._buffers:
            if self._buffered < _BUFFER_BYTES:
                await self._clock.sleep(_LINGER_SECONDS)
            try:
                await self._write()
            except DeliveryError:
                return

    async def _write(self) -> None:
        async with self._writing:
            self._refuse_after_failure()
            buffers, self._buffers, self._buffered = self._buffers, {}, 0
            if not buffers:
                return

            def job(store: Store) -> dict[TopicPartition, int]:
                transaction_id = None if self._transactional_id is None else self._open(store)
                return {
                    tp: store.log.append(tp, Slice(buffer.columns, buffer.size_bytes), transaction_id)
                    for tp, buffer in buffers.items()
                }

            self._ends.update(await self._deliver(job))

    async def _deliver(self, job: Callable[[Store], T]) -> T:
        try:
            return await self._broker.write(job)
        except CommitError:
            raise
        except TransportError as error:
            self._failure = error
            raise _failure(error, str(error)) from error
        except asyncio.CancelledError as error:
            # The job goes on in its thread, and nobody will hear how it ended.
            self._failure = error
            raise

    def _open(self, store: Store) -> int:
        assert self._transactional_id is not None, "send_offsets() needs a producer with a transactional id"
        expires_ms = self._broker.clock.time_ms() + self._transaction_timeout_ms
        return store.transactions.open(self._transactional_id, self._epoch, expires_ms)

    def _refuse_after_failure(self) -> None:
        if self._failure is not None:
            what = str(self._failure) or "a write was interrupted"
            msg = f"an earlier delivery failed ({what}): kill this producer and make a new one"
            raise _failure(self._failure, msg) from self._failure
        if self._dead:
            msg = "the producer was closed: make a new one"
            raise DeliveryError(msg)


def _failure(error: BaseException, msg: str) -> DeliveryError:
    """What callers are told: a refused record is refused again, all else may be tried with another producer."""
    return (RecordRefusedError if isinstance(error, RecordRefusedError) else DeliveryError)(msg)
