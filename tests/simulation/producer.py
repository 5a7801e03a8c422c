"""A producer that talks to the simulated broker as the Kafka driver does: idempotent, and after a request whose
outcome is not known it asks for a new epoch before it begins another transaction.

Next: `broker`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from streamlib.errors import BrokerUnavailableError, CommitError, DeliveryError, RecordTooLargeError, TransportError
from streamlib.record import Headers, TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata
from tests.simulation.broker import Broker
from tests.simulation.network import Network
from tests.simulation.partition import (
    CONCURRENT_TRANSACTIONS,
    ILLEGAL_GENERATION,
    INVALID_EPOCH,
    UNKNOWN_MEMBER,
    Batch,
    Refused,
)

T = TypeVar("T")

LINGER_SECONDS = 0.005
RETRY_SECONDS = 0.02
START_SECONDS = 15.0
END_SECONDS = 10.0
DELIVERY_SECONDS = 20.0
MAX_REQUEST_BYTES = 1024 * 1024
MIGRATED = {ILLEGAL_GENERATION, UNKNOWN_MEMBER}
NOT_BEGUN = "append outside of a transaction: call begin() first"


class _Buffer:
    """Records of one partition that are not acknowledged."""

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.timestamps: list[int] = []
        self.headers: list[Headers] = []


class SimulatedProducer:
    """Implements `transport.base.Producer`.

    Args:
        network: Leads to the broker.
        name: The transactional id, None for none.
        transaction_timeout: Of transactions, in seconds.

    Attributes:
        guards: Which safety rules of the client are kept: ``epoch`` (a new one after an indefinite outcome), ``member``
            (no offsets without a generation), ``batches`` (no commit after a batch was lost); tests take some out.
    """

    def __init__(self, network: Network, name: str | None, transaction_timeout: float) -> None:
        self.guards = {"epoch", "member", "batches"}
        self._network = network
        self._name = name
        self._transaction_timeout = transaction_timeout
        self._producer = self._epoch = -1
        self._sequences: dict[TopicPartition, int] = {}
        self._buffers: dict[TopicPartition, _Buffer] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._joined: set[TopicPartition] = set()
        self._offsets_joined = False
        self._failure: DeliveryError | None = None
        self._refusal: TransportError | None = DeliveryError("this producer is not started")
        self._unanswered = False
        self._in_transaction = False
        self._sending: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Get an id and an epoch."""
        await self._init(START_SECONDS)
        self._refusal = None if self._name is None else DeliveryError(NOT_BEGUN)

    async def close(self) -> None:
        """Deliver, or abort."""
        try:
            if self._name is not None:
                await self.abort()
            elif self._refusal is None:
                await self._deliver()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Say nothing more."""
        self._refusal = DeliveryError("this producer was closed")
        self._buffers.clear()
        if self._linger is not None:
            self._linger.cancel()
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.wait([sending])

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Buffer."""
        self._check()
        for row, (key, value) in enumerate(zip(keys, values, strict=True)):
            if (size := len(key or b"") + len(value or b"")) > MAX_REQUEST_BYTES:
                self.append(tp, keys[:row], values[:row], timestamps[:row], headers and headers[:row])
                msg = f"topic={tp.topic}: a record of {size} bytes is larger than {MAX_REQUEST_BYTES}"
                raise RecordTooLargeError(msg, row)
        if not keys:
            return
        buffer = self._buffers.get(tp)
        if buffer is None:
            buffer = self._buffers[tp] = _Buffer()
        buffer.keys += keys
        buffer.values += values
        buffer.timestamps += timestamps
        buffer.headers += headers or [()] * len(keys)
        if self._linger is None and self._sending is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._send)

    async def drain(self) -> None:
        """Buffers have no limit here."""
        if self._failure is not None:
            self._check()

    async def flush(self) -> dict[TopicPartition, int]:
        """Wait for everything."""
        await self._deliver()
        ends, self._ends = self._ends, {}
        return ends

    async def begin(self) -> None:
        """Begin, in a new epoch when something is not known."""
        if self._failure is not None:
            self._check()
        if self._name is None or self._in_transaction or self._producer < 0:
            raise TransportError(f"cannot begin a transaction: transactional_id={self._name}")
        if self._unanswered and "epoch" in self.guards:
            try:
                await self._init(END_SECONDS)
            except BrokerUnavailableError as error:
                self._fail(f"cannot begin a transaction: {error}")
                self._check()
        self._in_transaction, self._refusal = True, None
        self._joined, self._offsets_joined = set(), False

    async def send_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata) -> None:
        """Add offsets, as a member."""
        self._in("add offsets")
        if "member" in self.guards and (group.generation < 0 or not group.member_id):
            raise CommitError(f"group={group.group_id} generation={group.generation} is no membership")
        if not offsets and "member" in self.guards:
            raise TransportError("a transaction without offsets is not fenced")
        await self._deliver()
        self._refusal = TransportError("append after send_offsets()")  # no fault of any network's
        name, epoch = self._name, self._epoch
        assert name is not None
        group_id = group.group_id
        await self._transact("add-offsets", lambda b: b.add_to_transaction(name, epoch, group_id=group_id))
        self._offsets_joined = True
        await self._transact("txn-offset-commit", lambda b: b.add_offsets(name, epoch, group, offsets))

    async def commit(self) -> None:
        """End it."""
        self._in("commit")
        await self._deliver()
        await self._end(commit=True)

    async def abort(self) -> None:
        """End it without effect."""
        if not self._in_transaction:
            return
        self._buffers.clear()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await self._end(commit=False)
        self._ends.clear()

    async def _end(self, *, commit: bool) -> None:
        self._refusal = DeliveryError(NOT_BEGUN if self._failure is None else str(self._failure))
        if self._joined or self._offsets_joined:
            name, epoch = self._name, self._epoch
            assert name is not None
            await self._transact("end-txn", lambda b: b.end_transaction(name, epoch, commit=commit))
        self._in_transaction = False

    async def _transact(self, kind: str, job: Callable[[Broker], T]) -> T:
        """One step of a transaction, tried again while nobody answers."""
        try:
            return await self._until_answered(kind, job, END_SECONDS)
        except BrokerUnavailableError as error:
            self._fail(f"transactional_id={self._name}: {kind}: {error}")
            raise DeliveryError(str(self._failure)) from error
        except Refused as refusal:
            if refusal.code in MIGRATED:
                raise CommitError(str(refusal)) from refusal
            self._fail(f"transactional_id={self._name}: {kind}: {refusal}")
            raise (CommitError if refusal.code == INVALID_EPOCH else DeliveryError)(str(refusal)) from refusal

    async def _until_answered(self, kind: str, job: Callable[[Broker], T], seconds: float) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                answer: Any = await self._network.call(kind, job)
            except BrokerUnavailableError:
                self._unanswered = True
                if loop.time() >= deadline:
                    raise
            except Refused as refusal:
                if refusal.code != CONCURRENT_TRANSACTIONS:
                    raise
                if loop.time() >= deadline:
                    raise BrokerUnavailableError(str(refusal)) from refusal
            else:
                return answer  # type: ignore[no-any-return]
            await asyncio.sleep(RETRY_SECONDS)

    async def _init(self, seconds: float) -> None:
        name, timeout = self._name, self._transaction_timeout
        if name is None:
            made = await self._until_answered("init-producer", lambda b: b.new_producer(), seconds)
        else:
            made = await self._until_answered("init-producer", lambda b: b.init_producer(name, timeout), seconds)
        self._producer, self._epoch = made
        self._sequences.clear()
        self._unanswered = False

    # ---- sending ----------------------------------------------------------------------------------------

    def _send(self) -> None:
        self._linger = None
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._buffers and self._failure is None:
                buffers, self._buffers = self._buffers, {}
                await self._send_batches({tp: self._batch(tp, buffer) for tp, buffer in sorted(buffers.items())})
        except (BrokerUnavailableError, Refused) as error:
            self._fail(f"a batch was not written: {error}")
        finally:
            self._sending = None

    def _batch(self, tp: TopicPartition, buffer: _Buffer) -> Batch:
        sequence = self._sequences.get(tp, 0)
        self._sequences[tp] = sequence + len(buffer.keys)
        return Batch(buffer.keys, buffer.values, buffer.timestamps, buffer.headers, sequence)

    async def _send_batches(self, batches: dict[TopicPartition, Batch]) -> None:
        producer, epoch, name = self._producer, self._epoch, self._name
        if name is not None and (new := batches.keys() - self._joined):
            added = sorted(new)
            await self._until_answered(
                "add-partitions", lambda b: b.add_to_transaction(name, epoch, added), DELIVERY_SECONDS
            )
            self._joined |= new
        answers = await self._until_answered(
            "produce", lambda b: b.produce(batches, producer, epoch, name is not None), DELIVERY_SECONDS
        )
        for tp, answer in answers.items():
            if isinstance(answer, Refused):
                self._fail(f"topic={tp.topic} partition={tp.partition}: a batch was not written: {answer}")
            else:
                self._ends[tp] = answer + len(batches[tp].keys)

    async def _deliver(self) -> None:
        while self._buffers or self._sending is not None:
            if self._sending is None:
                if self._failure is not None:
                    break
                self._send()
            assert self._sending is not None
            await asyncio.wait([self._sending])
        if self._failure is not None:
            self._check()

    def _fail(self, why: str) -> None:
        if "batches" in self.guards and self._failure is None:
            self._failure = DeliveryError(why)

    def _check(self) -> None:
        if self._failure is not None:
            raise DeliveryError(str(self._failure))
        if self._refusal is not None:
            raise self._refusal

    def _in(self, doing: str) -> None:
        if self._failure is not None:
            self._check()
        if not self._in_transaction:
            raise TransportError(f"cannot {doing}: no transaction, transactional_id={self._name}")
