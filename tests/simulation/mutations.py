"""Each safety rule of exactly-once, taken out: the simulation must notice.

A mutation changes the production code, or the client, while a context is entered, and says where to strike so that it
shows soon. Where two rules guard against the same thing, both are taken out. `test_mutations` runs them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from streamlib.record import TopicPartition
from streamlib.runtime import task_manager
from streamlib.runtime.commit import Committer, apply
from streamlib.runtime.fencing import Fencing
from streamlib.runtime.restore import Restorer
from streamlib.runtime.task import Task
from streamlib.runtime.task_manager import TaskManager
from streamlib.runtime.worker import Worker
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata
from tests.simulation.chaos import Chaos, Focus, MissedGeneration
from tests.simulation.client import SimulatedAdmin
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.producer import SimulatedProducer
from tests.simulation.scenario import Settings

SECONDS = 8.0
ALONE = {"num_standby_replicas": 0, "acceptable_recovery_lag": 10_000, "probing_rebalance_interval_ms": 600_000}
NOWHERE = TopicPartition("no task reads this", 0)
FROZEN_SECONDS = (3.0, 4.5)  # the group has expelled the worker and others work, its transaction is still open
PATIENT = {"transaction_timeout_ms": 8_000}


@contextmanager
def changed(owner: type, **members: Any) -> Iterator[None]:
    """Other members of a class, for a while."""
    kept = {name: owner.__dict__[name] for name in members}
    for name, member in members.items():
        setattr(owner, name, member)
    try:
        yield
    finally:
        for name, member in kept.items():
            setattr(owner, name, member)


Patch = Callable[[], Any]


@dataclass(frozen=True)
class Mutation:
    """A rule that is not kept.

    Attributes:
        rule: Its number, as in the design.
        what: What is done instead.
        patches: Contexts in which it is done.
        focus: Where to strike.
        config: Settings with which it shows.
        workers: With how many workers it shows.
        chaos: What goes wrong.
    """

    rule: str
    what: str
    patches: tuple[Patch, ...]
    focus: Focus | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 2
    chaos: type[Chaos] = Chaos

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Do not keep the rule inside."""
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(patch())
            yield

    @property
    def settings(self) -> Settings:
        """Of runs in which it shows."""
        return Settings(
            "exactly_once_v2",
            focus=self.focus,
            config={**ALONE, **self.config},
            workers=self.workers,
            seconds=SECONDS,
            chaos=self.chaos,
        )


def _without(guard: str) -> Patch:
    """A producer without one of its guards."""
    start = SimulatedProducer.start

    async def unguarded(self: SimulatedProducer) -> None:
        self.guards.discard(guard)
        await start(self)

    return lambda: changed(SimulatedProducer, start=unguarded)


def _metadata_when_committing() -> Any:
    commit = Committer._commit

    async def live(self: Committer, offsets: Any, group: GroupMetadata | None) -> None:
        assert group is not None
        assert isinstance(self._consumer, SimulatedConsumer)
        member = self._consumer.membership
        if member is not None:
            group = GroupMetadata(group.group_id, *member.current)
        await commit(self, offsets, group)

    return changed(Committer, _commit=live)


def _metadata_of_nobody() -> Any:
    commit = Committer._commit

    async def unchecked(self: Committer, offsets: Any, group: GroupMetadata | None) -> None:
        assert group is not None
        await commit(self, offsets, GroupMetadata(group.group_id, -1, ""))

    return changed(Committer, _commit=unchecked)


def _offsets_that_may_change() -> Any:
    committed = SimulatedConsumer.committed

    async def unstable(self: SimulatedConsumer, tps: Collection[TopicPartition]) -> Any:
        self.stable = False
        return await committed(self, tps)

    return changed(SimulatedConsumer, committed=unstable)


def _stable_end_offsets() -> Any:
    async def stable(self: SimulatedAdmin, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._call("list-offsets", lambda b: {tp: b.partition(tp).stable for tp in tps})

    return changed(SimulatedAdmin, end_offsets=stable)


def _running_without_restoring() -> Any:
    async def nothing(self: Restorer, tasks: Any, processed: Any) -> dict[TopicPartition, Any]:
        return {}

    return changed(Restorer, _changelogs=nothing)


def _acknowledgements_not_awaited() -> Any:
    async def at_once(self: SimulatedProducer) -> None:
        self._send()

    return changed(SimulatedProducer, _deliver=at_once)


def _work_kept_over_rebalances() -> Any:
    async def settle(self: Worker, seconds: float) -> None:
        """Commits nothing."""

    def drop_unfinished(self: Worker) -> None:
        """Drops nothing."""

    return changed(Worker, _settle=settle, _drop_unfinished=drop_unfinished)


def _work_kept_when_expelled() -> Any:
    async def take(self: TaskManager, assigned: Any) -> None:
        if self.group is not None:  # looks as if it were still the same member
            self.group = assigned.group
        await original(self, assigned)

    original = TaskManager.take
    return changed(TaskManager, take=take)


def _lost_workers_not_fenced() -> Any:
    async def leave(self: Fencing, process_ids: Collection[str]) -> None:
        """Their transactions stay open until they time out."""

    return changed(Fencing, end_transactions=leave)


@contextmanager
def _gaps_overlooked() -> Iterator[None]:
    kept = task_manager._follows
    task_manager._follows = lambda before, after: before.member_id == after.member_id
    try:
        yield
    finally:
        task_manager._follows = kept


def _work_kept_after_failures() -> Any:
    return changed(TaskManager, drop_work=lambda self: None)


def _timers_without_offsets() -> Any:
    offsets, send = Task.offsets, SimulatedProducer.send_offsets

    def moved(self: Task) -> dict[TopicPartition, OffsetAndMetadata]:
        found = {tp: held for tp, held in offsets(self).items() if held.offset != self._committed.get(tp)}
        return found or {NOWHERE: OffsetAndMetadata(0)}

    async def send_moved(self: SimulatedProducer, held: Any, group: GroupMetadata) -> None:
        held = {tp: offset for tp, offset in held.items() if tp != NOWHERE}
        if held:
            await send(self, held, group)
        else:
            await self._deliver()

    @contextmanager
    def both() -> Iterator[None]:
        with changed(Task, offsets=moved), changed(SimulatedProducer, send_offsets=send_moved):
            yield

    return both()


def _writes_after_the_offsets() -> Any:
    commit, send = Committer.commit, SimulatedProducer.send_offsets

    async def remember(self: Committer, tasks: Collection[Task], group: Any) -> Any:
        current: Any = self._producer.current
        current._late = (tasks, self._clock)
        return await commit(self, tasks, group)

    async def write(self: Any, held: Any, group: GroupMetadata) -> None:
        await send(self, held, group)
        tasks, clock = self._late
        await clock.sleep(0.001)
        self._refusal = None
        late = [task for task in tasks if not task.dirty and task.punctuate(clock.time_ms() + 400)]
        if late:
            await self._network.call("late write", lambda broker: True)  # where the worker is struck

    @contextmanager
    def both() -> Iterator[None]:
        with changed(Committer, commit=remember), changed(SimulatedProducer, send_offsets=write):
            yield

    return both()


def _aborted_instead() -> Any:
    async def abort(self: SimulatedProducer) -> None:
        await self._deliver()
        await self._end(commit=False)

    return changed(SimulatedProducer, commit=abort)


def _state_before_the_commit() -> Any:
    commit = Committer.commit

    async def remember(self: Any, tasks: Collection[Task], group: Any) -> Any:
        self._early = tasks
        return await commit(self, tasks, group)

    ours = Committer._commit

    async def early(self: Any, offsets: Any, group: Any) -> None:
        await apply(self._early, self._clock)
        await ours(self, offsets, group)

    @contextmanager
    def both() -> Iterator[None]:
        with changed(Committer, commit=remember, _commit=early):
            yield

    return both()


ZOMBIE = Focus("freeze", "produce", 30, FROZEN_SECONDS)
PENDING = Focus("freeze", "txn-offset-commit", "after", FROZEN_SECONDS)
LATE_WRITE = Focus("freeze", "late write", "after", FROZEN_SECONDS, first=4)
SLOW_MARKERS = Focus("crash", "end-txn", "after", (3.0, 5.0), first=2, marker_seconds=6.0)
UNCOMMITTED = Focus("crash", "txn-offset-commit", "after", (0.02, 0.1))
LATE_END = Focus("crash", "no request", late_ends=0.3)
LOST_BATCH = Focus("crash", "no request", refusals=0.05)
LEAVING = Focus("stop", "produce")
OFTEN = {"commit_interval_ms": 100}
SELDOM = {**PATIENT, "commit_interval_ms": 800}
RARELY = {**PATIENT, "commit_interval_ms": 3_000}

MUTATIONS = (
    Mutation(
        "A1", "metadata is taken when committing", (_metadata_when_committing, _without("member")), ZOMBIE, RARELY
    ),
    Mutation(
        "A2",
        "committed offsets are not waited for",
        (_offsets_that_may_change, _lost_workers_not_fenced),
        PENDING,
        PATIENT,
    ),
    Mutation("A3", "changelogs are restored to their last stable offset", (_stable_end_offsets,), SLOW_MARKERS),
    Mutation("A4", "tasks run without being restored", (_running_without_restoring,), UNCOMMITTED),
    Mutation("C1", "acknowledgements are not awaited", (_acknowledgements_not_awaited,), LEAVING),
    Mutation("C2", "a transaction with a lost batch is committed", (_without("batches"),), LOST_BATCH),
    Mutation("C3", "work of an old membership is kept", (_work_kept_over_rebalances, _work_kept_when_expelled), ZOMBIE),
    Mutation(
        "C3 gap", "work is kept over a missed generation", (_gaps_overlooked,), config=OFTEN, chaos=MissedGeneration
    ),
    Mutation("C4", "timers commit no offsets", (_timers_without_offsets, _lost_workers_not_fenced), ZOMBIE, PATIENT),
    Mutation(
        "C4 last",
        "records are written after the offsets",
        (_writes_after_the_offsets, _lost_workers_not_fenced),
        LATE_WRITE,
        PATIENT,
        3,
    ),
    Mutation("C5", "transactions are not committed", (_aborted_instead,), LEAVING),
    Mutation("C6", "state is applied before the commit", (_state_before_the_commit,), UNCOMMITTED),
    Mutation("epoch", "the epoch stays after an indefinite outcome", (_without("epoch"),), LATE_END, SELDOM),
    Mutation("drop", "work is kept after a failed commit", (_work_kept_after_failures,), ZOMBIE),
    Mutation("revoke", "work is neither committed nor dropped", (_work_kept_over_rebalances,), LEAVING),
    Mutation("member", "offsets of no member are sent", (_metadata_of_nobody, _without("member")), ZOMBIE, PATIENT),
)


def by_rule(rule: str) -> Mutation:
    """The mutation of a rule."""
    return next(each for each in MUTATIONS if each.rule == rule)
