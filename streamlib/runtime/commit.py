"""A commit: caches to stores, stores to changelogs, everything acknowledged, input offsets committed, state applied.

In this order: (1) flush the caches, whose updates go downstream and to the changelogs; (2) wait until the broker has
everything; (3) commit the input offsets; (4) apply the rows to the engines.

At least once, (3) is a request of the group member. A crash between (2) and (3) processes some records again.

Exactly once, all that was written since the last commit is one transaction, and (3) adds the offsets to it, under the
group's generation at the assignment, and ends it. Every task that wrote anything has an offset in it, so the group's
coordinator refuses the transaction of a worker whose tasks belong to others; nothing is written in between, so what it
has accepted is whole (KIP-447). When a request fails the outcome may be unknown: nobody guesses. The producer is
replaced, which ends the transaction one way or the other, the work is dropped, and the committed offsets tell.

A task's rows and changelog offsets are applied in one atomic batch, so an engine is always the fold of what is
committed in the changelog up to the offset it holds; a crash between (3) and (4) replays one commit.

Every large step gives the event loop its turn in between. Nothing is processed meanwhile.
Source: TaskExecutor.commitOffsetsOrTransaction. Next: `worker`, which goes on.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

from streamlib.clock import Clock
from streamlib.record import TopicPartition
from streamlib.runtime.failpoints import reached
from streamlib.runtime.pacing import Pacing
from streamlib.runtime.producer_holder import ProducerHolder
from streamlib.runtime.task import Task
from streamlib.transport.base import Admin, Consumer, GroupMetadata, OffsetAndMetadata

log = logging.getLogger(__name__)

TURNS_TO_SEND = 8
"""Of the event loop, about: a batch is handed over, joins the transaction, is drained, written; each takes a turn."""


class Committer:
    """Commits tasks together.

    Args:
        producer: The worker's producer.
        consumer: The group member.
        clock: For yielding to the loop.
        pacing: How many rows to flush at a time.
    """

    def __init__(self, producer: ProducerHolder, consumer: Consumer, clock: Clock, pacing: Pacing) -> None:
        self._producer = producer
        self._consumer = consumer
        self._clock = clock
        self._pacing = pacing

    async def commit(
        self, tasks: Collection[Task], group: GroupMetadata | None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Commit what ``tasks`` have taken; returns the input offsets committed.

        Records with rows in asynchronous calls are left out. So are whole tasks where these would not come back: they
        stand still until their calls have ended, and then want a commit. In a transaction that holds for all tasks
        together: none is committed while there are calls.

        Args:
            tasks: All that run.
            group: The worker's place in the group when it was given these tasks.

        Raises:
            DeliveryError: Something was not written, or may not have been committed: replace the producer, drop the
                work, restore the tasks.
            CommitError: The group has moved on: likewise, and the tasks belong to others.
            BrokerUnavailableError: No answer yet: nothing is undone, commit again.
        """
        moved = [task for task in tasks if task.dirty]
        for task in moved:
            more = True
            while more:
                more = self._flush(task)
                await self._send()
        if moved:
            reached("after-send")
        acknowledged = await self._producer.current.flush()
        if moved:
            reached("after-acks")
        for task in moved:
            if task.calls.settled():
                task.acknowledged(acknowledged)
            else:
                task.stores.acknowledged(acknowledged)  # its inputs stay where they are
        if self._producer.transactional:
            if [task for task in tasks if not task.calls.settled()]:
                for task in tasks:
                    task.calls.hold_all()
                return {}
        else:
            moved = [task for task in moved if not task.calls.holding]
        offsets = {tp: held for task in moved for tp, held in task.offsets().items()}
        if offsets:
            await self._commit(offsets, group)
        for task in moved:
            task.committed()
        await apply(tasks, self._clock)
        if offsets:
            await self._producer.begin()
        return offsets

    async def _send(self) -> None:
        """Let what was flushed so far go to the broker, which works on it while the next part is flushed."""
        await self._producer.current.drain()
        for _ in range(TURNS_TO_SEND):
            await self._clock.sleep(0)

    async def _commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata | None) -> None:
        producer = self._producer.current
        reached("before-offsets")
        if not self._producer.transactional:
            await self._consumer.commit(offsets)
            reached("after-offsets")
            return
        assert group is not None, "tasks run only after an assignment"
        await producer.send_offsets(offsets, group)
        reached("after-offsets")
        reached("before-end")
        await producer.commit()
        reached("after-end")

    def _flush(self, task: Task) -> bool:
        """Flush as much as the loop may be held for; whether more remains."""
        group = task.task_id.subtopology
        rows = self._pacing.rows(group)
        with self._pacing.measured() as pace:
            more = task.flush(rows)
            if more:
                pace.rows, pace.group = rows, group
        return more


async def apply(tasks: Iterable[Task], clock: Clock) -> None:
    """Bring the engines of ``tasks``, which must be committed, up to their changelogs."""
    for task in tasks:
        rows = task.stores.pending_rows
        if rows:
            reached("before-apply")
        for _ in task.stores.apply():
            reached("mid-apply")
            await clock.sleep(0)
        if rows:
            reached("after-apply")


class Purger:
    """Deletes repartition records that every task has committed: nobody else may read those topics.

    They stay for one interval more. At least once, nothing fences the commit of a worker that has lost its tasks:
    coming late it may take the group's offset back, and what lies behind it must still be there.

    Args:
        admin: Deletes records.
        repartition_topics: Their names on the broker.
        interval_ms: Least time between two purges.
    """

    def __init__(self, admin: Admin, repartition_topics: Collection[str], interval_ms: int, clock: Clock) -> None:
        self._admin = admin
        self._topics = frozenset(repartition_topics)
        self._interval = interval_ms / 1000
        self._clock = clock
        self._before: dict[TopicPartition, int] = {}
        self._ripe: dict[TopicPartition, int] = {}
        self._last = clock.monotonic()

    def committed(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Remember what may go."""
        self._before.update({tp: held.offset for tp, held in offsets.items() if tp.topic in self._topics})

    def due(self) -> bool:
        """Whether there is something to purge and the interval has passed."""
        return bool(self._before or self._ripe) and self._clock.monotonic() - self._last >= self._interval

    async def purge(self) -> None:
        """Delete; a failure is only logged, since the next purge deletes the same and more."""
        before, self._ripe, self._before = self._ripe, self._before, {}
        self._last = self._clock.monotonic()
        if not before:
            return
        try:
            await self._admin.delete_records(before)
        except Exception as error:  # an optional clean-up must not stop a worker
            log.warning("could not purge repartition topics %s: %s", sorted({tp.topic for tp in before}), error)
