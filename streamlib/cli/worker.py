"""``streamlib worker module:attribute``: run an application. Next: `supervisor` for several, else `kafka_streams`."""

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from streamlib.cli.connection import BrokerOptions, Connection, resolved
from streamlib.cli.exits import SIGNALLED
from streamlib.cli.logs import LogOptions, configure_logging
from streamlib.cli.options import ENV_PREFIX, argument, command, option
from streamlib.cli.worker_options import TARGET_HELP, WorkerOptions

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from streamlib.config import StreamsConfig
    from streamlib.topology.topology import Topology

SLOT_VARIABLE = f"{ENV_PREFIX}SLOT"
"""Set by the supervisor for each process it starts: which of several workers it is, from 0 on."""

GC_ALLOCATIONS = 20_000  # between collections of the youngest objects; one of 100,000 holds the loop for 50 ms
DRAIN_GRACE_SECONDS = 5.0
"""Given to a process beyond its shutdown timeout, for closing what is open."""

STDIN = 0

log = logging.getLogger(__name__)


@command
def worker(
    target: Annotated[str, argument("MODULE:ATTRIBUTE", help=TARGET_HELP)],
    options: WorkerOptions,
    broker: BrokerOptions,
    logs: LogOptions,
    processes: Annotated[
        int,
        option("--processes", "-p", min=1, help="Worker processes; each keeps its state in STATE_DIR/<0, 1, ...>."),
    ] = 1,
    health_port: Annotated[
        int | None,
        option(
            "--health-port",
            min=1,
            max=65_535,
            help="Answer /health, /ready and /metrics on this port of the loopback interface; with -p, process i "
            "listens on PORT + i.",
        ),
    ] = None,
) -> None:
    """Run an application until SIGTERM or Ctrl-C.

    It then commits and leaves the group; a second signal ends it at once. Start it again, here or on other hosts, to
    share the partitions.

    With -p N, N processes are started and watched: one that crashes is started again, after 5 crashes within a minute
    everything stops. Process number i keeps its state in STATE_DIR/i, so going from one process to several, or back,
    restores state from the changelogs once.
    """
    from streamlib.cli.loading import load_topology

    slot = int(os.environ[SLOT_VARIABLE]) if SLOT_VARIABLE in os.environ else None
    configure_logging(logs, slot)
    topology = load_topology(target)
    connection = resolved(broker)
    config = options.config(topology, connection.file, slot)
    if slot is None and processes > 1:
        code = _supervise(processes, connection, config, logs)
    else:
        port = None if health_port is None else health_port + (slot or 0)
        code = _run(topology, config, connection, port, supervised=slot is not None)
    raise typer.Exit(code)


def _supervise(processes: int, connection: Connection, config: "StreamsConfig", logs: LogOptions) -> int:
    """Run several workers; this process loads the topology too, so that its mistakes are told once."""
    import asyncio

    from streamlib.cli.supervisor import Supervisor
    from streamlib.errors import ConfigError
    from streamlib.kafka_streams import connect

    most = connect(connection.address, connection.security).max_workers
    if most is not None and processes > most:
        msg = (
            f"the embedded broker {connection.address} takes {most} worker process, not {processes}: leave out -p, or "
        )
        raise ConfigError(msg + "use Kafka (--broker kafka://host:9092; streamlib dev kafka starts one)")
    supervisor = Supervisor(
        [sys.executable, "-m", "streamlib", *sys.argv[1:]],
        processes,
        slot_variable=SLOT_VARIABLE,
        drain_seconds=config.shutdown_timeout_ms / 1000 + DRAIN_GRACE_SECONDS,
        prefixed=logs.log_format == "text",
    )
    return asyncio.run(supervisor.run())


def _run(
    topology: "Topology", config: "StreamsConfig", connection: Connection, health_port: int | None, *, supervised: bool
) -> int:
    import asyncio
    import gc

    # A worker makes and drops rows by the thousand and keeps caches of them, none of it in cycles.
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 100)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_work(topology, config, connection, health_port, supervised=supervised))


async def _work(
    topology: "Topology", config: "StreamsConfig", connection: Connection, health_port: int | None, *, supervised: bool
) -> int:
    import asyncio
    from contextlib import AsyncExitStack

    from streamlib.cli.progress import restore_listener
    from streamlib.kafka_streams import KafkaStreams
    from streamlib.web.server import HealthServer

    starting = asyncio.current_task()
    assert starting is not None
    # Until it has started there is nothing to commit: the start is given up.
    stopper = Stopper(asyncio.get_running_loop(), starting.cancel)
    stopper.listen(supervised=supervised)
    streams = KafkaStreams(
        topology, config, broker=connection.address, security=connection.security, listener=restore_listener()
    )
    try:
        async with AsyncExitStack() as stack:
            if health_port is not None:
                await stack.enter_async_context(HealthServer(streams, health_port))
            await stack.enter_async_context(streams)
            stopper.stop = streams.stop
            log.info("%s runs on %s", config.application_id, connection.address)
            await streams.wait()
    except asyncio.CancelledError:
        if not stopper.asked:
            raise
    log.info("%s has stopped", config.application_id)
    return 0


class Stopper:
    """Hears that this process is to end: at first it stops the worker, a second signal ends the process at once.

    Signal handlers are Python's own, not the loop's, so that the second one is heard while a user function holds the
    loop.

    Args:
        loop: Where to call ``stop``.
        stop: What to call; may be replaced.

    Attributes:
        asked: Whether somebody has asked.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop", stop: "Callable[[], object]") -> None:
        self._loop = loop
        self.stop = stop
        self.asked = False
        self._signals = 0

    def listen(self, *, supervised: bool) -> None:
        """Hear signals; and the end of stdin, by which a supervisor asks, or tells that it is no more."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        if supervised:
            self._loop.add_reader(STDIN, self._told_by_supervisor)

    def _signalled(self, number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(SIGNALLED + number)
        self._loop.call_soon_threadsafe(self._ask, f"{signal.Signals(number).name}: once more to end at once")

    def _told_by_supervisor(self) -> None:
        if not os.read(STDIN, 4096):
            self._loop.remove_reader(STDIN)
            self._ask("asked by the supervisor")

    def _ask(self, reason: str) -> None:
        log.info("stopping (%s)", reason)
        self.asked = True
        self.stop()


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """uvloop's, when it is installed; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
