"""The door to an embedded broker: runs jobs on the database, knows the groups, rings when something has changed.

Next: `producer` and `consumer`, which come through it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol, TypeVar

from streamlib.clock import Clock
from streamlib.errors import BrokerUnavailableError
from streamlib.transport.embedded.database import Database
from streamlib.transport.embedded.group import Group
from streamlib.transport.embedded.log import Log
from streamlib.transport.embedded.offsets import Offsets
from streamlib.transport.embedded.pulse import Pulse
from streamlib.transport.embedded.topics import Topics
from streamlib.transport.embedded.transactions import Transactions

T = TypeVar("T")

RECHECK_SECONDS = 0.1
"""How long a change made by another process may go unnoticed."""


class Store:
    """Everything in one database."""

    def __init__(self, path: Path | None) -> None:
        self.database = Database(path)
        self.topics = Topics(self.database)
        self.log = Log(self.database, self.topics)
        self.transactions = Transactions(self.database)
        self.offsets = Offsets(self.database)


class WorkerLock(Protocol):
    """Keeps a broker's directory to one worker process."""

    def acquire(self, group_id: str) -> None:
        """Take it for a member of a group.

        Raises:
            BrokerLockedError: Another process has it.
        """

    def release(self) -> None:
        """Give it back."""

    def holder(self) -> tuple[str, str] | None:
        """Group and process id of whoever else has it."""


class Broker:
    """One process's way to the database, and the groups whose members live in this process.

    Attributes:
        written: Rings after every change of the database made here.
        changed: Rings when groups or topics change.
        max_message_bytes: Record limits of the topics that were there at `open` or made here since.

    Args:
        clock: The broker's time: sessions and transactions expire by it.
        executor: One thread that runs all jobs; None runs them at once, where they are asked for.
        lock: What members of groups must take.
        store: The database, if it is open already.
    """

    def __init__(
        self,
        clock: Clock,
        executor: Executor | None = None,
        lock: WorkerLock | None = None,
        store: Store | None = None,
    ) -> None:
        self.clock = clock
        self.lock = lock
        self.written = Pulse()
        self.changed = Pulse()
        self.max_message_bytes: dict[str, int] = {}
        self._executor = executor
        self._store = store
        self._groups: dict[str, Group] = {}

    async def open(self, path: Path | None) -> None:
        """Open the database.

        Raises:
            BrokerUnavailableError: It cannot be opened.
        """
        self._store = await self._run(lambda: Store(path))
        self.max_message_bytes = await self.read(lambda store: store.topics.max_message_bytes())

    async def close(self) -> None:
        """Close the database after the jobs that wait."""
        store, self._store = self._store, None
        if store is not None:
            await self._run(store.database.close)

    async def read(self, job: Callable[[Store], T]) -> T:
        """What ``job`` finds; it sees one moment of the database.

        Raises:
            BrokerUnavailableError: The database cannot be read.
        """
        store = self._opened()

        def run() -> T:
            with store.database.reading():
                return job(store)

        return await self._run(run)

    async def write(self, job: Callable[[Store], T]) -> T:
        """What ``job`` returns, once all its changes are made; if it raises, none is.

        Raises:
            BrokerUnavailableError: The database cannot be written.
        """
        store = self._opened()

        def run() -> T:
            with store.database.writing():
                return job(store)

        done = await self._run(run)
        self.written.ring()
        return done

    async def abort_overdue(self) -> None:
        """Abort transactions that have run out of time."""
        now_ms = self.clock.time_ms()
        await self.write(lambda store: store.transactions.abort_overdue(now_ms))

    async def purge(self) -> None:
        """Free the space of deleted records, a little at a time."""
        while await self.write(lambda store: store.log.purge()):
            pass

    def group(self, group_id: str) -> Group:
        """A group, as it stands now."""
        group = self._groups.get(group_id)
        if group is None:
            group = Group(group_id, self.clock.monotonic, self.changed.ring, expires=self.lock is None)
            self._groups[group_id] = group
        group.tick()
        return group

    def groups(self) -> list[str]:
        """Groups with members, in this process or another one."""
        here = [group_id for group_id, group in sorted(self._groups.items()) if group.members()]
        elsewhere = self._elsewhere()
        return here if elsewhere is None else [*here, elsewhere[0]]

    def members(self, group_id: str) -> tuple[str, list[str]]:
        """State and member ids of a group, in this process or another one."""
        elsewhere = self._elsewhere()
        if elsewhere is not None and elsewhere[0] == group_id:
            return "Stable", [f"process-{elsewhere[1]}"]
        group = self.group(group_id)
        return group.state, group.members()

    def _elsewhere(self) -> tuple[str, str] | None:
        return None if self.lock is None else self.lock.holder()

    def _opened(self) -> Store:
        if self._store is None:
            msg = "the broker is not open: await the transport's start() first, and use nothing of it after close()"
            raise BrokerUnavailableError(msg)
        return self._store

    async def _run(self, job: Callable[[], T]) -> T:
        if self._executor is None:
            return job()
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)
