"""`KafkaStreams` runs a topology inside the caller's event loop; `connect` picks the driver for a broker's address.

This is the composition root of the library, as `cli` is that of the command line and `testing` that of tests.
Next: `runtime/worker`.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from streamlib.clock import Clock, SystemClock
from streamlib.config import StreamsConfig
from streamlib.errors import ConfigError
from streamlib.metrics import Metrics
from streamlib.topology.topology import Topology
from streamlib.transport.base import Transport
from streamlib.transport.security import SecurityConfig

if TYPE_CHECKING:
    from streamlib.runtime.health import Health
    from streamlib.runtime.restore import RestoreListener
    from streamlib.runtime.worker import Worker

# Drivers and the runtime are imported when they are used: looking at topics does not pay for RocksDB, the embedded
# broker not for aiokafka, Kafka not for SQLite.

T = TypeVar("T")

DEFAULT_BROKER = "local:.streamlib"

log = logging.getLogger(__name__)


def connect(address: str, security: SecurityConfig | None = None, client_id: str = "streamlib") -> Transport:
    """The transport for a broker's address, not yet started.

    Args:
        address: ``kafka://host:port[,host:port...]``, or ``local:DIRECTORY`` for the embedded broker.
        security: How to authenticate and encrypt; only for Kafka.
        client_id: How this client is called in the broker's logs and quotas.

    Raises:
        ConfigError: An address of no known form.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "kafka" and rest.startswith("//") and len(rest) > 2:
        from streamlib.transport.kafka.transport import KafkaTransport  # noqa: PLC0415

        return KafkaTransport(rest[2:], security, client_id)
    if scheme == "local" and rest:
        from streamlib.transport.local.transport import LocalTransport  # noqa: PLC0415

        return LocalTransport(Path(rest))
    msg = f'cannot tell the broker from "{address}": write kafka://host:9092 or local:DIRECTORY'
    raise ConfigError(msg)


class KafkaStreams:
    """A running application: ``async with KafkaStreams(topology, config) as streams: await streams.wait()``.

    Entering starts one worker on the current event loop and returns once it has joined its group; leaving stops it with
    a last commit, within `shutdown_timeout_ms`. It installs no signal handlers: the caller's framework has its own.
    Once started it belongs to its process: in one forked from that everything raises `ForkedError`.

    Args:
        topology: What `StreamsBuilder.build` returned.
        config: Settings, or a mapping of their names; ``application_id`` defaults to the topology's name.
        broker: ``kafka://host:port`` or ``local:DIRECTORY``.
        security: How to authenticate and encrypt; only for Kafka.
        listener: Hears how restoring goes; logs by default.
        clock: Time; a test may bring its own.
        transport: An opened driver in place of ``broker``.

    Raises:
        ConfigError, TopologyError, MissingTopicError, InternalTopicError, StateDirLockedError, BrokerUnavailableError:
            On entering; nothing is left behind.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig | Mapping[str, Any] | None = None,
        *,
        broker: str = DEFAULT_BROKER,
        security: SecurityConfig | None = None,
        listener: "RestoreListener | None" = None,
        clock: Clock | None = None,
        transport: Transport | None = None,
    ) -> None:
        if not isinstance(config, StreamsConfig):
            config = StreamsConfig.from_mapping({"application_id": topology.name, **(config or {})})
        self.topology = topology
        self.config = config
        self.metrics = Metrics()
        self._transport = transport if transport is not None else connect(broker, security, config.application_id)
        self._listener = listener
        self._clock = clock or SystemClock()
        self._stack = AsyncExitStack()
        self._worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Start the worker."""
        from streamlib.runtime.application import open_worker  # noqa: PLC0415
        from streamlib.runtime.restore import LogRestoreListener  # noqa: PLC0415

        self._check_process()
        listener = self._listener or LogRestoreListener()
        opening = open_worker(self.topology, self.config, self._transport, self._clock, self.metrics, listener)
        try:
            self._worker = await _whole(self._stack.enter_async_context(opening), cancellable=True)
        except asyncio.CancelledError:
            await _whole(self._stack.aclose())
            raise
        self._running = asyncio.create_task(self._worker.run(), name=f"streamlib {self.config.application_id}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop the worker; what it failed with, and nobody has waited for, is raised."""
        self.stop()
        try:
            await self.wait()
        finally:
            await _whole(self._close())

    async def _close(self) -> None:
        if self._running is not None and not self._running.done():  # the exit was cancelled
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._stack.aclose()

    def stop(self) -> None:
        """Ask the worker to commit and leave; returns at once."""
        self._check_process()
        self._stopping = True
        if self._worker is not None:
            self._worker.stop()

    async def wait(self) -> None:
        """Return when the worker has stopped after `stop`.

        Raises:
            StreamlibError: What stopped it otherwise. Everything since the last commit is undone.
        """
        self._check_process()
        if self._running is not None:
            await asyncio.shield(self._running)

    def health(self) -> "Health":
        """How the worker is now: whether it should go on running, whether it processes, and why not."""
        from streamlib.runtime.health import Health  # noqa: PLC0415

        self._check_process()
        running = self._running
        if self._worker is None or running is None:
            return Health(alive=True, ready=False, problems=("the worker has not started",))
        failure = running.exception() if running.done() and not running.cancelled() else None
        return self._worker.vitals.health(failure, stopping=self._stopping or running.done())

    @property
    def failed(self) -> bool:
        """Whether the worker has stopped with an error, which `wait` raises."""
        self._check_process()
        running = self._running
        return running is not None and running.done() and not running.cancelled() and running.exception() is not None

    @property
    def tasks(self) -> Mapping[str, str]:
        """The state of each task of this worker, by task id."""
        self._check_process()
        return {} if self._worker is None else self._worker.manager.statistics()

    def _check_process(self) -> None:
        if self._worker is not None:
            self._worker.owner.check()


async def _whole(work: Coroutine[Any, Any, T], *, cancellable: bool = False) -> T:
    """What ``work`` returns. However often the caller is cancelled, what is being closed gets closed.

    Args:
        work: Opens or closes something, in bounded time.
        cancellable: Whether to hand the first cancellation on to it.
    """
    working = asyncio.ensure_future(work)
    cancelled = False
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError:
            if cancellable and not cancelled:
                working.cancel()
            cancelled = True
    if cancelled:
        if not working.cancelled() and (error := working.exception()) is not None:
            log.warning("cancelled, and then: %s", error)
        raise asyncio.CancelledError
    return working.result()
