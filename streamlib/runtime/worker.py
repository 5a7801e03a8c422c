"""The worker: polls, routes records to tasks, lets them process, commits. It decides; the tasks do.

One event loop, one consumer, one producer. The loop is never held longer than `loop_budget_ms`: tasks process runs
whose length follows the measured time per record. Rebalance callbacks only commit and take notes; the loop acts on
them. While no broker answers the worker stands still, and nothing is lost or done twice. After a refused record or
commit the producer is replaced, uncommitted work is dropped, and the tasks are restored from what is committed. So it
is, for a minute, after a call that the broker does not permit; and after a full disk or damaged state, with stores that
are opened anew. A mistake in the application's own code or data stops the worker, and everything since the last commit
is undone.

Source: StreamThread. Next: `task_manager`, then `task`.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    CommitError,
    DeliveryError,
    DiskFullError,
    MissingTopicError,
    OffsetOutOfRangeError,
    RecordRefusedError,
    RetryLaterError,
    StateCorruptedError,
)
from streamlib.metrics import Metrics
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.assignment import Assignment
from streamlib.runtime.assignment_codec import DecisionData
from streamlib.runtime.commit import Committer, Purger
from streamlib.runtime.failpoints import reached
from streamlib.runtime.fencing import Fencing
from streamlib.runtime.health import Vitals
from streamlib.runtime.outage import Outage
from streamlib.runtime.owner import Owner
from streamlib.runtime.pacing import Pacing
from streamlib.runtime.permissions import Permissions
from streamlib.runtime.producer_holder import ProducerHolder
from streamlib.runtime.rarely import Rarely
from streamlib.runtime.restore import Restorer, cancelled
from streamlib.runtime.standby import Standbys
from streamlib.runtime.task import Task
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_manager import TaskManager
from streamlib.runtime.task_stores import let_go
from streamlib.runtime.topic_watch import TopicWatch
from streamlib.transport.base import Consumer, GroupMetadata, Transport

log = logging.getLogger(__name__)

IDLE_POLL_MS = 100
RETRY_SECONDS = (0.1, 10.0)
DISK_FULL_SECONDS = 2.0  # until stores that found no room are opened again
CANCEL_SECONDS = 1.0  # for what user code does when its call is cancelled


class Worker:
    """Runs the tasks that the group gives it.

    Implements `transport.base.RebalanceListener`.

    Attributes:
        owner: The process it runs in.
        manager: Holds its tasks.
        permissions: Those that it has found missing.
        vitals: Tell how it is.
    """

    vitals: Vitals

    def __init__(
        self,
        config: StreamsConfig,
        transport: Transport,
        factory: TaskFactory,
        producer: ProducerHolder,
        restorer: Restorer,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.owner = Owner()
        self._config = config
        self._producer = producer
        self._clock = clock
        self._metrics = metrics
        self._pacing = Pacing(clock, config.loop_budget_ms)
        self._lock = asyncio.Lock()  # held by whoever touches tasks: the loop's turn, or a revocation
        self._stop = asyncio.Event()
        self._epoch = 0
        self._rebalancing = False
        self._assigned: Assignment | None = None
        self._decision = DecisionData("")
        self._background: set[asyncio.Task[None]] = set()
        self._dropped = False  # uncommitted work was dropped: the producer must be renewed, the tasks restored
        self._last_commit = clock.monotonic()
        self._arrived = asyncio.Event()  # results of asynchronous calls are there to be handed on
        self.manager = TaskManager(config, factory, restorer, clock, self._arrived.set)
        self._outage = Outage(transport, clock)
        self.permissions = Permissions(clock)
        self._repetition = Rarely(clock)

    def connect(
        self,
        consumer: Consumer,
        committer: Committer,
        purger: Purger,
        watch: TopicWatch,
        standbys: Standbys,
        fencing: Fencing | None,
        companions: "Sequence[asyncio.Task[None]]",
    ) -> None:
        """Give the worker its group membership, made with the worker itself as the listener.

        Args:
            consumer: The member.
            committer: Commits as that member.
            purger: Deletes consumed repartition records.
            watch: Knows what a missing topic was for.
            standbys: Keeps copies of other workers' tasks.
            fencing: Ends transactions of lost workers, if there are transactions.
            companions: What goes on beside it without end; the worker stops with their errors.
        """
        self._companions = companions
        self._consumer = consumer
        self.manager.connect(consumer, standbys, fencing)
        self._committer = committer
        self._purger = purger
        self._watch = watch

    def read(self, factory: TaskFactory, topics: frozenset[str]) -> None:
        """Go on with other source topics, as soon as the group has shared them out.

        Args:
            factory: Makes tasks of the changed plan.
            topics: All source topics by their names on the broker.
        """
        self.manager.read(factory)
        self._consumer.subscribe(topics)

    @property
    def rebalancing(self) -> bool:
        """Whether the group has yet to decide who does what."""
        return self._rebalancing

    @property
    def waits_for_broker(self) -> bool:
        """Whether the last call found no broker."""
        return self._outage.lasts

    # ---- the group's callbacks: take notes, commit, return ---------------------------------------------

    def decided(self, decision: DecisionData) -> None:
        """Take note of what the leader has decided besides the partitions, which come next."""
        self._decision = decision

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Commit and stand still until the group has decided."""
        reached("in-revoked")
        self._epoch += 1
        self._rebalancing = True
        self._assigned = None  # a decision that was not carried out yet is void
        async with self._lock:
            await self.manager.stop_restoring()  # not before: the turn that has the lock may begin with it
            try:
                async with asyncio.timeout(self._config.rebalance_timeout_ms / 2000):
                    await self._settle(self._config.rebalance_timeout_ms / 4000)
                self._drop_unfinished()
            except Exception as error:  # must not raise into the group's machinery; the work is done again
                log.warning("could not commit before a rebalance, uncommitted work is dropped: %s", error)
                self._drop_work()
            self.manager.suspend()

    async def on_assigned(self, partitions: Collection[TopicPartition], group: GroupMetadata) -> None:
        """Take note; the loop makes the tasks."""
        reached("in-assigned")
        self._epoch += 1
        self._assigned = Assignment.of(partitions, self.manager.factory, group, self._decision)
        self._rebalancing = False

    # ---- the loop ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End `run` after a last commit; returns at once."""
        self._stop.set()

    async def run(self) -> None:
        """Work until `stop`, then commit what is done, within `shutdown_timeout_ms` all in all.

        Raises:
            StreamlibError: What the application or its data did wrong; the work since the last commit is undone.
        """
        working = asyncio.ensure_future(self._work())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            going_on = {working, stopping, *self._companions}
            while {working, stopping} <= going_on:
                ended, going_on = await asyncio.wait(going_on, return_when=asyncio.FIRST_COMPLETED)
                for companion in ended - {working, stopping}:
                    companion.result()  # one that has nothing to do may end; one that fails ends the worker
            await asyncio.wait([working], timeout=self._config.shutdown_timeout_ms / 1000)
            if working.done():
                working.result()
            else:
                log.warning("could not commit within shutdown_timeout_ms: work since the last commit is done again")
        finally:
            await cancelled(working)
            await cancelled(stopping)

    async def _work(self) -> None:
        failures = 0
        while not self._stop.is_set():
            before = self.manager.factory
            try:
                await self._turn()
                self._outage.over()
                failures = 0
                continue
            except BrokerUnavailableError as error:
                # Nothing to drop: what was appended is still on its way, and the next commit commits what was taken.
                # A transaction may run out of time meanwhile; then that commit is refused.
                await self._outage.goes_on(error)
            except RecordRefusedError:
                raise  # done again, it would be refused again
            except RetryLaterError as error:
                await self._start_over(error)
                await self._pause(error.backoff_ms / 1000)
                continue
            except AuthorizationError as error:
                pause = self.permissions.refused(error)
                await self._undo()
                await self._pause(pause)
                continue
            except (DiskFullError, StateCorruptedError) as error:
                await self._mend_state(error)
                continue
            except (DeliveryError, CommitError) as error:
                await self._start_over(error)
            except MissingTopicError:
                with suppress(BrokerUnavailableError):
                    await self._watch.look()  # raises the same with more to say, unless it was another topic
                if self.manager.factory is before:  # else it was a topic that had matched a pattern
                    raise
                continue
            failures += 1
            await self._pause(min(RETRY_SECONDS[1], RETRY_SECONDS[0] * 2 ** min(failures, 10)))
        await self._last_words()

    async def _start_over(self, error: Exception) -> None:
        """Drop the work that is not committed, so that the tasks are restored."""
        if self._repetition.now():
            log.warning("work since the last commit will be done again: %s", error)
        await self._undo()

    async def _mend_state(self, error: DiskFullError | StateCorruptedError) -> None:
        """Open stores again, of a damaged one an empty one, so that they are restored."""
        let_go(error)
        await self._start_over(error)
        async with self._lock:
            self.manager.mend(error)
        if isinstance(error, DiskFullError):
            await self._pause(DISK_FULL_SECONDS)

    async def _undo(self) -> None:
        await self.manager.stop_restoring()
        async with self._lock:
            self._drop_work()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        waiting = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._stop.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                await cancelled(each)

    async def _last_words(self) -> None:
        """Commit before leaving."""
        await self.manager.stop_restoring()
        if self._dropped:
            return
        try:
            async with self._lock:
                await self._settle(self._config.shutdown_timeout_ms / 2000)
                self._drop_unfinished()
        except (
            AuthorizationError,
            BrokerUnavailableError,
            CommitError,
            DeliveryError,
            DiskFullError,
            RetryLaterError,
            StateCorruptedError,
        ) as error:
            log.warning("could not commit at shutdown; work since the last commit will be done again: %r", error)

    async def close(self) -> None:
        """Close the tasks; uncommitted work is dropped."""
        for background in list(self._background):
            await cancelled(background)
        reached("during-close")
        await self.manager.close(CANCEL_SECONDS)

    async def _turn(self) -> None:
        """One round: assignment, commit, poll, process."""
        self.owner.check()
        if self._dropped:
            await self._producer.renew()
            self._dropped = False
        async with self._lock:
            if self._assigned is not None:
                assigned, self._assigned = self._assigned, None
                await self.manager.take(assigned)
                reached("after-assigned")
            if not self._rebalancing:  # else the group may give the tasks away
                await self.manager.advance()
                if self.manager.rebalance_due():
                    self._consumer.rejoin()
            if self._commit_is_due():
                await self._commit()
        epoch = self._epoch
        waiting = any(task.buffered and task.calls.room for task in self.manager.running())
        at_once = waiting or (self.manager.making and not self._rebalancing)
        try:
            polled = await self._poll(0 if at_once else self._idle_ms(), epoch)
        except OffsetOutOfRangeError as error:
            # The log was cut; or the group has expelled this worker unnoticed, and others have gone on. What is
            # committed tells: if that lies outside the log too, restoring knows what to do.
            await self._start_over(error)
            return
        async with self._lock:
            if epoch != self._epoch:
                self.manager.seek_back(polled.keys())
                return
            for tp, batch in polled.items():
                self.manager.owner(tp).add(tp, batch)
            self.manager.step_over()
            handed_on = await self._hand_on()
            processed = await self._process(epoch)
            punctuated = self._punctuate()
        if processed or punctuated or handed_on:
            await self._producer.current.drain()
        elif waiting and not polled:
            await self._clock.sleep(0.005)  # waiting for another input of the same task

    async def _poll(self, timeout_ms: int, epoch: int) -> dict[TopicPartition, FetchedBatch]:
        """What a poll brings; meanwhile results of asynchronous calls go on, and so do the records behind them."""
        poll = self._consumer.poll(
            self.manager.wanted(), max_records=self._config.max_poll_records, timeout_ms=timeout_ms
        )
        if not timeout_ms or not self._calling():
            return await poll
        polling = asyncio.ensure_future(poll)
        try:
            while self._calling() and await self._arrive_before(polling):
                async with self._lock:
                    if epoch != self._epoch:
                        break
                    await self._hand_on()
                    await self._process(epoch)
                await self._producer.current.drain()
                if self._commit_is_due():
                    break
            return await polling
        finally:
            await cancelled(polling)

    async def _arrive_before(self, polling: "asyncio.Future[Any]") -> bool:
        """Wait until results are there, or the poll has ended; whether it goes on."""
        arriving = asyncio.ensure_future(self._arrived.wait())
        try:
            await asyncio.wait([polling, arriving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(arriving)
        return not polling.done()

    async def _hand_on(self) -> bool:
        """Take on the results of asynchronous calls that have arrived; whether there were any."""
        self._arrived.clear()
        handed_on = False
        for task in self.manager.running():
            while task.calls.hand_on(self._pacing.rows(task.task_id.subtopology)):
                handed_on = True
                await self._clock.sleep(0)
        return handed_on

    def _calling(self) -> bool:
        """Whether asynchronous calls are under way."""
        return any(task.calls.progress.rows for task in self.manager.running())

    async def _settle(self, seconds: float) -> None:
        """Commit when the asynchronous calls have ended; after so long, what is finished."""
        deadline = self._clock.monotonic() + seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                    while self._calling():
                        await self._arrived.wait()
                        await self._hand_on()
            await self._commit()
            if self._clock.monotonic() >= deadline or not any(task.calls.holding for task in self.manager.running()):
                return

    async def _process(self, epoch: int) -> int:
        """Let each ready task process what it has buffered; the event loop gets its turn in between."""
        total = 0
        ready = [task for task in self.manager.running() if self._ready(task)]
        while ready and epoch == self._epoch and not self._stop.is_set():
            for task in ready:
                with self._pacing.measured() as pace:
                    pace.rows = task.process(self._pacing.rows(task.task_id.subtopology))
                    pace.group = task.task_id.subtopology
                total += pace.rows
                await self._clock.sleep(0)
            self._punctuate()
            if self._commit_is_due():
                break
            await self._producer.current.drain()
            ready = [task for task in ready if self._ready(task)]
        if total:
            self._metrics.count("records_processed_total", total)
        return total

    def _punctuate(self) -> bool:
        """Fire the wall-clock schedules that are due; whether there were any."""
        now_ms = self._clock.time_ms()
        fired = [task.punctuate(now_ms) for task in self.manager.running()]
        return any(fired)

    def _commit_is_due(self) -> bool:
        running = self.manager.running()
        if self._config.exactly_once and any(task.calls.holding for task in running):
            return not self._calling()  # they all wait for one commit
        overdue = self._clock.monotonic() - self._last_commit >= self._config.commit_interval_ms / 1000
        return overdue or any(task.commit_requested for task in running)

    def _ready(self, task: Task) -> bool:
        return task.ready(self._consumer.lag, self._clock.time_ms(), self._config.max_task_idle_ms)

    def _idle_ms(self) -> int:
        """How long to wait for records: not beyond the next commit or punctuation."""
        due = self._last_commit + self._config.commit_interval_ms / 1000 - self._clock.monotonic()
        now_ms = self._clock.time_ms()
        punctuations = [task.next_punctuation_ms for task in self.manager.running()]
        waits_ms = [due_ms - now_ms for due_ms in punctuations if due_ms is not None]
        return max(1, min(IDLE_POLL_MS, int(due * 1000), *waits_ms))

    # ---- commit and recovery ----------------------------------------------------------------------------

    async def _commit(self) -> None:
        if self._dropped:
            return
        offsets = await self._committer.commit(self.manager.running(), self.manager.group)
        self._last_commit = self._clock.monotonic()
        if offsets:
            self.permissions.granted()
        self._purger.committed(offsets)
        if self._purger.due():
            background = asyncio.ensure_future(self._purger.purge())
            self._background.add(background)
            background.add_done_callback(self._background.discard)

    def _drop_unfinished(self) -> None:
        """Exactly once, when calls have outlasted a last commit, nothing of the transaction counts.

        It has rows of tasks that leave, and those in the stores must not reach the engines.
        """
        if self._config.exactly_once and any(task.dirty for task in self.manager.running()):
            log.info("asynchronous calls have not ended: work since the last commit will be done again")
            self._drop_work()

    def _drop_work(self) -> None:
        """Back to the last commit: what was processed since then is done again."""
        self._dropped = True
        self.manager.drop_work()
