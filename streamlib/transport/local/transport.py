"""``local:DIR``: topics, offsets and transactions in one SQLite database. Next: `embedded/broker`."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streamlib.clock import Clock, SystemClock
from streamlib.errors import BrokerUnavailableError
from streamlib.transport.base import Admin, Consumer, GroupOptions, IsolationLevel, Producer
from streamlib.transport.embedded.admin import EmbeddedAdmin
from streamlib.transport.embedded.broker import Broker
from streamlib.transport.embedded.consumer import EmbeddedConsumer
from streamlib.transport.embedded.producer import EmbeddedProducer
from streamlib.transport.local.lock import DirectoryLock

DATABASE_FILE = "broker.db"
_OPEN_PATIENCE_SECONDS = 1.0


class LocalTransport:
    """The embedded broker in ``directory``.

    What was flushed or committed survives the end of the process, however it ends. It is written to disk a little
    later, so a machine that loses power may lose the last moments, but never a part of a transaction.

    All work on the database happens in one thread, so the event loop is never held by it.

    Args:
        directory: Made when missing; holds everything. It must be on a local disk, not on a network share.
        clock: Time.
    """

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self._directory = directory
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-broker")
        self._broker = Broker(self._clock, self._thread, DirectoryLock(directory))
        self._clients = 0

    @property
    def address(self) -> str:
        """``local:`` and the directory."""
        return f"local:{self._directory}"

    @property
    def max_workers(self) -> int | None:
        """One."""
        return 1

    async def start(self) -> None:
        """Open the database, and make it when it is missing; any number of processes may.

        Raises:
            BrokerUnavailableError: The directory or the file cannot be made or opened.
            TransportError: The file is something else, or was written by a newer streamlib.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot make the directory {self._directory} ({error}): choose one that may be written"
            raise BrokerUnavailableError(msg) from error
        # SQLite refuses at once, without waiting, while another process makes the file or closes it as the last one.
        deadline = self._clock.monotonic() + _OPEN_PATIENCE_SECONDS
        while True:
            try:
                return await self._broker.open(self._directory / DATABASE_FILE)
            except BrokerUnavailableError:
                if self._clock.monotonic() >= deadline:
                    raise
            await self._clock.sleep(_OPEN_PATIENCE_SECONDS / 20)

    async def close(self) -> None:
        """Close the database."""
        await self._broker.close()
        self._thread.shutdown(wait=False)

    def consumer(self, group: GroupOptions | None = None, isolation: IsolationLevel = "read_committed") -> Consumer:
        """A consumer; as a member of ``group`` it makes this process the directory's only worker when started."""
        self._clients += 1
        client_id = f"process-{os.getpid()}-{self._clients}"
        return EmbeddedConsumer(self._broker, self._clock, isolation, group, client_id)

    def producer(self, transactional_id: str | None = None, transaction_timeout_ms: int = 10_000) -> Producer:
        """An idempotent producer, or a transactional one."""
        return EmbeddedProducer(self._broker, self._clock, transactional_id, transaction_timeout_ms)

    async def admin(self) -> Admin:
        """An admin."""
        return EmbeddedAdmin(self._broker)
