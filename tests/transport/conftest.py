"""One broker of each kind, and a bench that makes producers, readers and group members and closes them all."""

import asyncio
import heapq
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamlib.record import FetchedBatch, TopicPartition
from streamlib.transport.base import (
    Admin,
    Consumer,
    GroupMetadata,
    GroupOptions,
    IsolationLevel,
    Member,
    Producer,
    TopicSpec,
    Transport,
)

PATIENCE_SECONDS = 20.0


@pytest.fixture(params=["memory", "local", "simulated", pytest.param("kafka", marks=pytest.mark.kafka)])
def make_transport(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Transport]:
    """Makes transports to one broker; each call is what another process would make."""
    if request.param == "memory":
        from streamlib.transport.memory import MemoryTransport

        first = MemoryTransport()
        return lambda: MemoryTransport(first.broker)
    if request.param == "simulated":
        from tests.simulation.broker import Broker
        from tests.simulation.client import SimulatedTransport
        from tests.simulation.network import Network

        networks: list[Network] = []

        def simulated() -> Transport:
            networks[:] = networks or [Network(Broker())]
            return SimulatedTransport(networks[0])

        return simulated
    if request.param == "local":
        from streamlib.transport.local.transport import LocalTransport

        return lambda: LocalTransport(tmp_path / "broker")
    from streamlib.transport.kafka.transport import KafkaTransport

    address: str = request.getfixturevalue("kafka_broker")
    return lambda: KafkaTransport(address)


@pytest.fixture
async def transport(make_transport: Callable[[], Transport]) -> AsyncIterator[Transport]:
    made = make_transport()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def bench(transport: Transport) -> AsyncIterator["Bench"]:
    async with AsyncExitStack() as stack:
        admin = await transport.admin()
        stack.push_async_callback(admin.close)
        yield Bench(transport, admin, stack)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return once ``condition`` holds; fail after a generous time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while not await condition():
        if loop.time() > deadline:
            pytest.fail(f"still waiting after {PATIENCE_SECONDS:.0f} s: {what}")
        await asyncio.sleep(0.01)


class ManualClock:
    """A clock that stands still until a test moves it; whoever lives by a frozen one does not get on at all."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.frozen = False
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0 and not self.frozen:
            await asyncio.sleep(0)
        else:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), future))
            await future

    async def advance(self, seconds: float) -> None:
        """Let time pass, sleeper by sleeper, giving everyone their turn."""
        self.frozen = False
        until = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, future = heapq.heappop(self._sleepers)
            self.now = max(self.now, due)
            if not future.done():
                future.set_result(None)
                await settle()
        self.now = until
        await settle()


async def settle() -> None:
    """Let everything run that does not wait for time."""
    for _ in range(25):
        await asyncio.sleep(0)


@pytest.fixture
def new_clock() -> type[ManualClock]:
    return ManualClock


class SpreadAssignor:
    """Deals all partitions of the subscribed topics round the members; remembers what it was told."""

    name = "spread"

    def __init__(self, user_data: bytes) -> None:
        self.user_data = user_data
        self.seen: list[Mapping[str, Member]] = []
        self.decisions: list[tuple[frozenset[TopicPartition], bytes]] = []

    def subscription(self) -> bytes:
        return self.user_data

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        self.seen.append(dict(members))
        every = [TopicPartition(topic, p) for topic in sorted(partitions) for p in range(partitions[topic])]
        order = sorted(members)
        return {
            member: (every[index :: len(order)], b"for " + members[member].user_data)
            for index, member in enumerate(order)
        }

    def assigned(self, partitions: Collection[TopicPartition], user_data: bytes) -> None:
        self.decisions.append((frozenset(partitions), user_data))


@dataclass
class RecordingListener:
    """Notes each call; ``log`` may be shared by several listeners, to see their calls in one order."""

    name: str = "member"
    log: list[tuple[str, str, frozenset[TopicPartition]]] = field(default_factory=list)
    owned: frozenset[TopicPartition] = frozenset()
    group: GroupMetadata | None = None
    before_revoke: Callable[[], Awaitable[None]] | None = None

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        if self.before_revoke is not None and partitions:
            await self.before_revoke()
        if partitions:
            self.log.append((self.name, "revoked", frozenset(partitions)))
        self.owned = frozenset()

    async def on_assigned(self, partitions: Collection[TopicPartition], group: GroupMetadata) -> None:
        self.log.append((self.name, "assigned", frozenset(partitions)))
        self.owned = frozenset(partitions)
        self.group = group


@dataclass
class GroupMember:
    """A consumer in a group, its listener and its assignor."""

    consumer: Consumer
    listener: RecordingListener
    assignor: SpreadAssignor

    @property
    def metadata(self) -> GroupMetadata:
        assert self.listener.group is not None
        return self.listener.group

    async def wait_owned(self, partitions: Iterable[TopicPartition]) -> None:
        expected = frozenset(partitions)

        async def owned() -> bool:
            await self.consumer.poll((), max_records=1, timeout_ms=10)
            return self.listener.owned == expected

        await eventually(owned, f"{self.listener.name} owns {sorted(self.listener.owned)}, not {sorted(expected)}")


def make_member(
    transport: Transport,
    group_id: str,
    topics: Iterable[str],
    listener: RecordingListener,
    max_poll_interval_ms: int = 300_000,
) -> GroupMember:
    assignor = SpreadAssignor(listener.name.encode())
    options = GroupOptions(
        group_id,
        frozenset(topics),
        assignor,
        listener,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=100,
        rebalance_timeout_ms=10_000,
        max_poll_interval_ms=max_poll_interval_ms,
    )
    return GroupMember(transport.consumer(options), listener, assignor)


@pytest.fixture
def new_member() -> Callable[..., GroupMember]:
    """Makes members on any transport, not started."""

    def make(transport: Transport, group_id: str, topics: Iterable[str], name: str, **options: int) -> GroupMember:
        return make_member(transport, group_id, topics, RecordingListener(name), **options)

    return make


class Bench:
    """Makes what a test needs on one broker, under names no other test uses."""

    def __init__(self, transport: Transport, admin: Admin, stack: AsyncExitStack) -> None:
        self.transport = transport
        self.admin = admin
        self._stack = stack

    async def eventually(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        await eventually(condition, what)

    def listener(self, name: str, log: list[tuple[str, str, frozenset[TopicPartition]]]) -> RecordingListener:
        return RecordingListener(name, log)

    def name(self, prefix: str) -> str:
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    def numbered(self, count: int, start: int = 0) -> list[bytes]:
        return [b"%d" % number for number in range(start, start + count)]

    async def topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = self.name("topic")
        await self.admin.create_topics([TopicSpec(name, partitions, 1, configs or {})])

        async def exists() -> bool:
            return await self.admin.partition_counts([name]) == {name: partitions}

        await eventually(exists, f"topic {name} exists")
        return name

    async def partition(self) -> TopicPartition:
        return TopicPartition(await self.topic(), 0)

    async def producer(self, transactional_id: str | None = None) -> Producer:
        producer = self.transport.producer(transactional_id)
        await producer.start()
        self._stack.push_async_callback(producer.kill)
        return producer

    async def reader(
        self, positions: Mapping[TopicPartition, int], isolation: IsolationLevel = "read_committed"
    ) -> Consumer:
        consumer = self.transport.consumer(isolation=isolation)
        await consumer.start()
        self._stack.push_async_callback(consumer.close)
        consumer.assign(positions)
        return consumer

    async def member(
        self, group_id: str, topics: Iterable[str], listener: RecordingListener | None = None
    ) -> GroupMember:
        member = make_member(self.transport, group_id, topics, listener or RecordingListener())
        await member.consumer.start()
        self._stack.push_async_callback(member.consumer.close)
        return member

    async def owning_member(self, partitions: int = 1) -> tuple[GroupMember, list[TopicPartition]]:
        """A member that owns the partitions of a new topic, and those partitions."""
        topic = await self.topic(partitions)
        member = await self.member(self.name("group"), [topic])
        tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        await member.wait_owned(tps)
        return member, tps

    async def write(self, tp: TopicPartition, values: Sequence[bytes | None], timestamp_ms: int = 1_000) -> None:
        """Write values with a producer of its own; each value's key is the same bytes."""
        producer = self.transport.producer()
        await producer.start()
        producer.append(tp, list(values), list(values), [timestamp_ms] * len(values))
        await producer.flush()
        await producer.close()

    async def read(self, consumer: Consumer, tp: TopicPartition, count: int) -> FetchedBatch:
        """The next ``count`` records of one partition, in one batch."""
        read = FetchedBatch([], [], [], [], [], 0)

        async def enough() -> bool:
            polled = await consumer.poll([tp], max_records=count - len(read), timeout_ms=200)
            for batch in polled.values():
                read.keys += batch.keys
                read.values += batch.values
                read.timestamps += batch.timestamps
                read.offsets += batch.offsets
                assert read.headers is not None
                read.headers += batch.headers or [()] * len(batch)
                read.next_offset = batch.next_offset
            return len(read) >= count

        await eventually(enough, f"{count} records of {tp}, last seen {read.values[-3:]}")
        return read

    async def values(self, tp: TopicPartition, count: int, isolation: IsolationLevel = "read_committed") -> list[bytes]:
        """The first ``count`` values of one partition."""
        return (await self.read(await self.reader({tp: 0}, isolation), tp, count)).values

    async def nothing_more(self, consumer: Consumer, tp: TopicPartition) -> None:
        """Check that no record comes for a while."""
        polled = await consumer.poll([tp], max_records=10, timeout_ms=150)
        assert {tp: batch.values for tp, batch in polled.items() if len(batch)} == {}

    async def poll_until_refused(self, consumer: Consumer, tp: TopicPartition) -> None:
        """Poll until an error comes; return after a while if none does."""
        for _ in range(50):
            await consumer.poll([tp], max_records=10, timeout_ms=100)

    async def wait_position(self, consumer: Consumer, tp: TopicPartition, offset: int) -> None:
        async def there() -> bool:
            await consumer.poll([tp], max_records=10, timeout_ms=20)
            return consumer.position(tp) == offset

        await eventually(there, f"position of {tp} to become {offset}")
