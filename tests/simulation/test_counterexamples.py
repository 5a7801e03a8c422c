"""Seven ways in which exactly-once has been lost, as scripts: each shows with what others did, and not with our rules.

The scripts use the clients of the simulation directly. Z is the worker that has the task first, N the one after it; the
task writes the number of the record to "out" and the count so far to "changelog".
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from streamlib.errors import CommitError, DeliveryError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, GroupOptions, OffsetAndMetadata, TopicSpec
from streamlib.transport.embedded.group import Subscription
from tests.simulation.broker import Broker
from tests.simulation.client import SimulatedTransport
from tests.simulation.disk import DiskEngine
from tests.simulation.loop import Process, SimulationLoop
from tests.simulation.network import Network, Route
from tests.simulation.partition import INVALID_RECORD, Refused
from tests.simulation.producer import SimulatedProducer

INPUT, OUT, CHANGELOG = (TopicPartition(topic, 0) for topic in ("in", "out", "changelog"))
GROUP = "group"
TRANSACTION_MS = 60_000


class HarmError(Exception):
    """What was lost or done twice."""


def same(found: object, right: object) -> None:
    """Raise `HarmError` unless it is right."""
    if found != right:
        raise HarmError(f"{found}, not {right}")


class Scripted:
    """Routes that a script sets for the next request of a kind."""

    def __init__(self) -> None:
        self.next: dict[str, Route] = {}

    def route(self, process: Process | None, kind: str) -> Route:
        return self.next.pop(kind, Route(0.001, 0.001))


class Stage:
    """A broker with one group, and what the scripts need of it."""

    def __init__(self, loop: SimulationLoop) -> None:
        self.delays: list[float] = []
        self.broker = Broker(lambda: self.delays.pop(0) if self.delays else 0.001)
        self.broker.create_topics([TopicSpec(tp.topic, 1) for tp in (INPUT, OUT, CHANGELOG)])
        self.routes = Scripted()
        self.transport = SimulatedTransport(Network(self.broker, self.routes))
        self.loop = loop

    async def producer(self, name: str, *, without: str = "") -> SimulatedProducer:
        """A producer in a transaction, perhaps without one of its guards."""
        producer = self.transport.producer(name, TRANSACTION_MS)
        assert isinstance(producer, SimulatedProducer)
        producer.guards.discard(without)
        await producer.start()
        await producer.begin()
        return producer

    def joins(self, member: str, *, expelled: str = "") -> GroupMetadata:
        """A member that has the task from now on."""
        group = self.broker.group(GROUP)
        group.leave(expelled)
        group.join(member, Subscription(frozenset({INPUT.topic}), b"", 3_600_000, 1_000))
        generation = group.joined(member)
        assert generation is not None
        group.decide(generation, {member: ([INPUT], b"")})
        return GroupMetadata(GROUP, generation, member)

    async def committed(self) -> int:
        """The offset as a new owner reads it."""
        kept = (await self.transport.consumer(_options()).committed([INPUT]))[INPUT]
        return 0 if kept is None else kept.offset

    async def restored(self, end: int, engine: DiskEngine | None = None) -> int:
        """The count as a new owner restores it: the last one in the changelog up to ``end``."""
        engine = engine or DiskEngine()
        engine.create("counts")
        at = engine.offsets().get("counts", 0)
        reader = self.transport.consumer()
        reader.assign({CHANGELOG: at})
        while (reader.position(CHANGELOG) or 0) < end:
            for batch in (await reader.poll([CHANGELOG], max_records=10, timeout_ms=100)).values():
                engine.write({"counts": {b"k": batch.values[-1]}}, {"counts": batch.next_offset})
        await reader.close()
        return int(engine.get("counts", b"k") or b"0")

    async def ends(self) -> int:
        """The end of the changelog."""
        admin = await self.transport.admin()
        return (await admin.end_offsets([CHANGELOG]))[CHANGELOG]

    async def work(self, producer: SimulatedProducer, record: int, count: int) -> None:
        """Take a record: write its number and the count."""
        producer.append(OUT, [b"k"], [b"record %d" % record], [1])
        producer.append(CHANGELOG, [b"k"], [b"%d" % count], [1])
        await producer.flush()

    def written(self, tp: TopicPartition) -> list[bytes | None]:
        """What readers of committed records see."""
        return self.broker.partition(tp).read(0, 100, committed=True).values


def _options() -> GroupOptions:
    """Of a consumer that only asks for the group's offsets."""
    unused: Any = None
    return GroupOptions(GROUP, frozenset({INPUT.topic}), unused, unused)


def offset(of: int) -> dict[TopicPartition, OffsetAndMetadata]:
    return {INPUT: OffsetAndMetadata(of)}


Script = Callable[[Stage, bool], Awaitable[None]]


async def commit_after_a_rebalance(stage: Stage, naive: bool) -> None:
    """aiokafka #844: TxnOffsetCommit v0 carries no generation, so nobody notices who sends it."""
    z_member = stage.joins("z")
    z = await stage.producer("z", without="member")
    await stage.work(z, 0, 1)
    n_member = stage.joins("n", expelled="z")
    n = await stage.producer("n")
    assert await stage.committed() == 0
    await stage.work(n, 0, 1)
    await n.send_offsets(offset(1), n_member)
    await n.commit()
    try:
        await z.send_offsets(offset(1), GroupMetadata(GROUP, -1, "") if naive else z_member)
        await z.commit()
    except CommitError:
        await z.abort()
    await stage.transport.admin()
    same(stage.written(OUT), [b"record 0"])


async def restore_to_the_last_stable_offset(stage: Stage, naive: bool) -> None:
    """KAFKA-10167: the offsets' marker may come before the changelog's, and what lies behind it is missed."""
    z_member = stage.joins("z")
    z = await stage.producer("z")
    await stage.work(z, 0, 1)
    stage.delays = [0.5, 0.5, 0.001]  # changelog, out, offsets
    await z.send_offsets(offset(1), z_member)
    await z.commit()
    stage.joins("n", expelled="z")
    assert await stage.committed() == 1
    end = stage.broker.partition(CHANGELOG).stable if naive else await stage.ends()
    same(await stage.restored(end), 1)


async def late_request_to_end(stage: Stage, naive: bool) -> None:
    """Jepsen on Bufstream: EndTxn comes again when the next transaction is on, and ends that."""
    z_member = stage.joins("z")
    z = await stage.producer("z", without="epoch" if naive else "")
    await stage.work(z, 0, 1)
    await z.send_offsets(offset(1), z_member)
    stage.routes.next["end-txn"] = Route(there=3.0)
    await z.commit()
    await z.begin()
    await stage.work(z, 1, 2)
    await stage.transport.consumer().poll([], max_records=1, timeout_ms=3_000)
    try:
        await z.abort()
    except DeliveryError:
        await z.kill()
    same(stage.written(OUT), [b"record 0"])


async def stale_checkpoint(stage: Stage, naive: bool) -> None:
    """KAFKA-20685: rows reach the disk before the commit, and the checkpoint beside them does not tell."""
    stage.joins("z")
    engine = DiskEngine()
    engine.create("counts")
    z = await stage.producer("z")
    await stage.work(z, 0, 1)
    if naive:
        engine.write({"counts": {b"k": b"1"}}, {})
    await z.kill()
    await stage.producer("z")
    assert await stage.committed() == 0
    same(await stage.restored(await stage.ends(), engine), 0)


async def zombie_with_nothing_but_a_timer(stage: Stage, naive: bool) -> None:
    """A transaction without offsets is fenced by nobody: a timer of a worker that was expelled is heard again."""
    z_member = stage.joins("z")
    z = await stage.producer("z")
    await stage.work(z, -1, 1)
    n_member = stage.joins("n", expelled="z")
    n = await stage.producer("n")
    await stage.work(n, -1, 1)
    await n.send_offsets(offset(0), n_member)
    await n.commit()
    try:
        if not naive:
            await z.send_offsets(offset(0), z_member)
        await z.commit()
    except CommitError:
        await z.abort()
    await stage.transport.admin()
    same(stage.written(OUT), [b"record -1"])


async def metadata_of_no_member(stage: Stage, naive: bool) -> None:
    """A client that has heard of its expulsion is in generation -1, which brokers take for "do not check"."""
    stage.joins("z")
    z = await stage.producer("z", without="member" if naive else "")
    await stage.work(z, 0, 1)
    n_member = stage.joins("n", expelled="z")
    n = await stage.producer("n")
    await stage.work(n, 0, 1)
    await n.send_offsets(offset(1), n_member)
    await n.commit()
    try:
        await z.send_offsets(offset(1), GroupMetadata(GROUP, -1, ""))
        await z.commit()
    except CommitError:
        await z.abort()
    await stage.transport.admin()
    same(stage.written(OUT), [b"record 0"])


async def commit_with_a_lost_batch(stage: Stage, naive: bool) -> None:
    """aiokafka commits although a batch was refused: the offset moves on, the record is nowhere."""
    z_member = stage.joins("z")
    z = await stage.producer("z", without="batches" if naive else "")
    stage.routes.next["produce"] = Route(0.001, 0.001, refusal=Refused(INVALID_RECORD, "refused"))
    try:
        await stage.work(z, 0, 1)
        await z.send_offsets(offset(1), z_member)
        await z.commit()
    except DeliveryError:
        await z.kill()
        await stage.producer("z")
    await stage.transport.admin()
    same(len(stage.written(OUT)), await stage.committed())


SCRIPTS: list[Script] = [
    commit_after_a_rebalance,
    restore_to_the_last_stable_offset,
    late_request_to_end,
    stale_checkpoint,
    zombie_with_nothing_but_a_timer,
    metadata_of_no_member,
    commit_with_a_lost_batch,
]


def play(script: Script, *, naive: bool) -> None:
    loop = SimulationLoop(0)

    async def whole() -> None:
        await script(Stage(loop), naive)

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_harm_is_seen_when_the_rule_is_not_kept(script: Script) -> None:
    with pytest.raises(HarmError):
        play(script, naive=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_no_harm_is_done_when_the_rule_is_kept(script: Script) -> None:
    play(script, naive=False)
