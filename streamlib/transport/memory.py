"""A broker inside this process: the same code as `local` over a database in memory, for tests and simulation.

There are no threads and no chance in it; waiting goes through the clocks. With a virtual clock a run can be repeated
exactly. Next: `embedded/broker`.
"""

import weakref

from streamlib.clock import Clock, SystemClock
from streamlib.transport.base import Admin, Consumer, GroupOptions, IsolationLevel, Producer
from streamlib.transport.embedded.admin import EmbeddedAdmin
from streamlib.transport.embedded.broker import Broker, Store
from streamlib.transport.embedded.consumer import EmbeddedConsumer
from streamlib.transport.embedded.producer import EmbeddedProducer


class MemoryBroker(Broker):
    """A broker that several `MemoryTransport` share, as several processes share a Kafka cluster.

    Args:
        clock: The broker's own time: sessions and transactions expire by it.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        store = Store(None)
        super().__init__(clock or SystemClock(), store=store)
        self._clients = 0
        weakref.finalize(self, store.database.close)

    def next_client(self) -> str:
        """A name that no other client has."""
        self._clients += 1
        return f"client-{self._clients}"


class MemoryTransport:
    """One process's connection to a `MemoryBroker`.

    Args:
        broker: Shared with other transports; None makes a new one with ``clock``.
        clock: This process's time; heartbeats and timeouts of polls follow it.
    """

    def __init__(self, broker: MemoryBroker | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.broker = broker or MemoryBroker(self._clock)
        self._consumers: list[EmbeddedConsumer] = []
        self._producers: list[EmbeddedProducer] = []

    @property
    def address(self) -> str:
        """Always ``memory:``."""
        return "memory:"

    @property
    def max_workers(self) -> int | None:
        """Any number."""
        return None

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close: the broker lives as long as somebody holds it."""

    def consumer(self, group: GroupOptions | None = None, isolation: IsolationLevel = "read_committed") -> Consumer:
        """A consumer: a member of ``group``, or one that reads what it is told."""
        made = EmbeddedConsumer(self.broker, self._clock, isolation, group, self.broker.next_client())
        self._consumers.append(made)
        return made

    def producer(self, transactional_id: str | None = None, transaction_timeout_ms: int = 10_000) -> Producer:
        """An idempotent producer, or a transactional one."""
        made = EmbeddedProducer(self.broker, self._clock, transactional_id, transaction_timeout_ms)
        self._producers.append(made)
        return made

    async def admin(self) -> Admin:
        """An admin."""
        return EmbeddedAdmin(self.broker)

    async def kill(self) -> None:
        """End all consumers and producers as ``kill -9`` would: no group is left, no transaction is ended."""
        for producer in self._producers:
            await producer.kill()
        for consumer in self._consumers:
            await consumer.vanish()
