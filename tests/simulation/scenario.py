"""One seed: a broker, a few workers, records, everything that goes wrong; then quiet, and everything must add up.

Next: `checks`, which add it up.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streamlib.config import StreamsConfig
from streamlib.errors import BrokerUnavailableError
from streamlib.metrics import Metrics
from streamlib.record import TopicPartition
from streamlib.runtime.application import open_worker
from streamlib.runtime.restore import LogRestoreListener
from streamlib.runtime.worker import Worker
from streamlib.topology.topology import Topology
from streamlib.transport.base import TopicSpec
from streamlib.transport.partitioner import Partitioner
from tests.simulation import application
from tests.simulation.broker import Broker
from tests.simulation.chaos import Chaos, Deed, Focus
from tests.simulation.checks import Expected, problems_of, settled
from tests.simulation.client import SimulatedTransport
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.disk import Disk, in_place_of_databases
from tests.simulation.loop import EPOCH_SECONDS, Process, SimulationLoop
from tests.simulation.network import Network
from tests.simulation.partition import Batch
from tests.simulation.producer import SimulatedProducer

CHAOS_SECONDS = 5.0
INPUT_SECONDS = 4.0
PATIENCE_SECONDS = 60.0
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.1
TRANSACTION_SECONDS = 4.0
FULL_DISKS = 0.25
FULL_SECONDS = (0.05, 3.0)
WORDS = ("ant", "bee", "cat", "dog", "elk")

Made = Callable[[SimulatedConsumer | SimulatedProducer], None]

TOPOLOGY: Topology = application.topology()


@dataclass(frozen=True)
class Settings:
    """What a run is made of, besides its seed.

    Attributes:
        guarantee: Processing guarantee; None leaves it to the seed.
        made: Called with each client that is made; see `client.SimulatedTransport`.
        focus: Where the first worker is struck, and no other; None strikes them all anywhere.
        config: Settings of the workers, in place of those that the seed draws.
        workers: How many there are; None leaves it to the seed.
        seconds: How long things go wrong.
        chaos: What goes wrong.
        keep_log: Whether to keep what happened, to be read.
    """

    guarantee: str | None = None
    made: Made | None = None
    focus: Focus | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    seconds: float = CHAOS_SECONDS
    chaos: type[Chaos] = Chaos
    keep_log: bool = False


@dataclass
class Result:
    """How a run ended.

    Attributes:
        seed: Its seed.
        problems: What does not add up; none when all is well.
        trace: A hash of everything that happened.
        seconds: Virtual time that passed.
        deeds: How often workers were struck, and how.
        log: What happened, when it was kept.
    """

    seed: int
    problems: list[str]
    trace: int
    seconds: float
    deeds: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)


class LoopClock:
    """A worker's clock: the loop's time, with a wall clock that is wrong by a constant."""

    def __init__(self, loop: SimulationLoop, off_seconds: float) -> None:
        self._loop = loop
        self._off = off_seconds

    def time_ms(self) -> int:
        """Wall clock."""
        return int((self._loop.time() + self._off) * 1000)

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)


class Slot:
    """A machine on which one worker after the other runs: killed, stopped or frozen, and back again.

    Attributes:
        disk: What outlives them.
        process: The present worker's.
    """

    def __init__(self, simulation: "Simulation", number: int) -> None:
        self.disk = Disk(simulation.folder / f"machine-{number}")
        self.process: Process | None = None
        self._simulation = simulation
        self._number = number
        self._incarnations = 0
        self._worker: Worker | None = None
        self._leaving = False
        self._clock = LoopClock(simulation.loop, simulation.loop.random.uniform(-1.0, 1.0))

    @property
    def up(self) -> bool:
        """Whether a worker is there, even if frozen."""
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start a worker, unless one is there."""
        simulation = self._simulation
        if self.up or simulation.over:
            return
        self._incarnations += 1
        self._worker, self._leaving = None, False
        self.process = simulation.loop.process(f"w{self._number}.{self._incarnations}")
        if simulation.chaos.active and (self._number == 0 or simulation.settings.focus is None):
            simulation.chaos.threaten(self.process)
        self.process.spawn(self._main(self.process))

    async def _main(self, process: Process) -> None:
        simulation = self._simulation
        config = replace(simulation.config, state_dir=self.disk.state_dir)
        transport = SimulatedTransport(simulation.network)
        transport.made = simulation.settings.made
        try:
            opening = open_worker(TOPOLOGY, config, transport, self._clock, Metrics(), LogRestoreListener())
            async with opening as worker:
                self._worker = worker
                if self._leaving:
                    worker.stop()
                await worker.run()
        except BrokerUnavailableError:
            pass
        except Exception as error:
            if not simulation.over:
                simulation.failed.append(f"{process.name} ended with {type(error).__name__}: {error}")
        process.alive = False
        simulation.loop.note("ended", process.name)
        if not self._leaving:
            self._later(1.0, self.start)

    def stop(self) -> None:
        """Ask the worker to leave."""
        self._leaving = True
        if self._worker is not None:
            self._worker.stop()

    def strike(self, deed: Deed) -> None:
        """Do it, and have the worker back some time later."""
        assert self.process is not None
        absence = self._simulation.chaos.absence(deed)
        if deed == "freeze":
            self.process.freeze()
            self._later(absence, self.process.thaw)
        elif deed == "stop" and self._worker is not None:
            self.stop()
            self._later(absence, self.start)
            self._later(absence + STOP_SECONDS, self.start)
        elif deed == "cut":
            self._simulation.chaos.cut(self.process, absence)
        else:
            self.process.kill()
            self._later(absence, self.start)
        if deed == "freeze" and self._simulation.loop.random.random() < 0.5:
            self._simulation.chaos.threaten(self.process)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        loop = self._simulation.loop
        loop.call_later(seconds, call, context=loop.world.context)


class Simulation:
    """One run."""

    def __init__(self, loop: SimulationLoop, settings: Settings, folder: Path) -> None:
        random = loop.random
        self.folder = folder
        self.loop = loop
        self.settings = settings
        self.over = False
        self.failed: list[str] = []
        self.deeds: dict[str, int] = {}
        self.expected = Expected()
        workers = random.choice((1, 2, 2, 3))
        guarantee = random.choice(("exactly_once_v2", "exactly_once_v2", "at_least_once"))
        # At least once, a commit that comes late may take the group's offsets back, for nothing fences it: to where
        # records must not have been purged in the meantime.
        exactly_once = (settings.guarantee or guarantee) == "exactly_once_v2"
        self.config = StreamsConfig(
            application.NAME,
            processing_guarantee=settings.guarantee or guarantee,  # type: ignore[arg-type]
            commit_interval_ms=random.choice((30, 100, 300)),
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            statestore_cache_max_bytes=random.choice((0, 1_000_000)),
            session_timeout_ms=2_000,
            heartbeat_interval_ms=300,
            rebalance_timeout_ms=3_000,
            shutdown_timeout_ms=10_000,
            repartition_purge_interval_ms=random.choice((500, 30_000)) if exactly_once else 30_000,
            num_standby_replicas=random.choice((0, 0, 1)),
            acceptable_recovery_lag=random.choice((0, 3, 10_000)),
            probing_rebalance_interval_ms=random.choice((700, 600_000)),
        )
        self.config = replace(self.config, **settings.config)
        self.chaos = settings.chaos(loop, self._strike, settings.focus)
        self.broker = Broker(self.chaos.marker_delay)
        self.network = Network(self.broker, self.chaos)
        self.slots = [Slot(self, number) for number in range(settings.workers or workers)]
        if settings.focus is None:
            self._fill_disks()

    async def run(self) -> list[str]:
        """Let it happen; returns what does not add up."""
        loop = self.loop
        names = (application.INPUT, application.COUNTS, application.WINDOWS, application.TICKS)
        self.broker.create_topics([TopicSpec(name, application.PARTITIONS) for name in names])
        self._produce()
        for slot in self.slots:
            joins = loop.random.choice((0.0, 0.0, loop.random.uniform(0, CHAOS_SECONDS)))
            loop.call_later(joins if self.settings.focus is None else 0.0, slot.start)
        await asyncio.sleep(self.settings.seconds)
        self.chaos.active = False
        loop.note("quiet")
        for slot in self.slots:
            if slot.up:
                assert slot.process is not None
                self.chaos.spare([slot.process])
                slot.process.thaw()
            else:
                slot.start()
        waited = 0.0
        while not settled(self.broker, self.config.application_id):
            await asyncio.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
            if waited > PATIENCE_SECONDS or self.failed:
                stall = [] if self.failed else [f"records were left after {PATIENCE_SECONDS:.0f} seconds of quiet"]
                return self.failed + stall
        if problem := await self._leave():
            return [*self.failed, problem]
        cached = self.config.statestore_cache_max_bytes > 0
        zombies = not self.chaos.quiet or bool({"freeze", "cut"} & self.deeds.keys())
        expected = replace(self.expected, exactly_once=self.config.exactly_once, cached=cached, zombies=zombies)
        disks = [slot.disk for slot in self.slots]
        if refusals := sum(disk.refusals for disk in disks):
            self.deeds["full disk"] = refusals
        return self.failed + problems_of(self.broker, self.config.application_id, expected, disks)

    async def _leave(self) -> str | None:
        """Stop all workers, and wait for what they leave open."""
        self.over = True
        for slot in self.slots:
            slot.stop()
        deadline = self.loop.time() + STOP_SECONDS
        while any(slot.up for slot in self.slots):
            await asyncio.sleep(LOOK_SECONDS)
            if self.loop.time() > deadline:
                return f"a worker was not stopped after {STOP_SECONDS:.0f} seconds"
        while self.broker.open_transactions():
            await asyncio.sleep(LOOK_SECONDS)
            if self.loop.time() > deadline + TRANSACTION_SECONDS:
                return f"transactions stay open: {self.broker.open_transactions()}"
        return None

    def _strike(self, process: Process, deed: Deed) -> None:
        self.deeds[deed] = self.deeds.get(deed, 0) + 1
        self.loop.note("strike", process.name, deed)
        next(slot for slot in self.slots if slot.process is process).strike(deed)

    def _fill_disks(self) -> None:
        """Let some disks be full for a while."""
        loop = self.loop
        for slot in self.slots:
            if loop.random.random() < FULL_DISKS:
                begin = loop.time() + loop.random.uniform(0.0, CHAOS_SECONDS)
                end = begin + loop.random.uniform(*FULL_SECONDS)
                slot.disk.full = lambda begin=begin, end=end: begin <= loop.time() < end

    def _abort(self, name: str) -> None:
        """Somebody writes in a transaction that does not last."""
        tp = TopicPartition(application.INPUT, self.loop.random.randrange(application.PARTITIONS))
        producer, epoch = self.broker.init_producer(name, 10.0)
        self.broker.add_to_transaction(name, epoch, [tp])
        timestamp = int(self.loop.time() * 1000)
        self.broker.produce({tp: Batch([b"k"], [b"aborted"], [timestamp], None, 0)}, producer, epoch, True)
        self.broker.end_transaction(name, epoch, commit=False)

    def _produce(self) -> None:
        """Have somebody write words, now and then."""
        random = self.loop.random
        partitions = Partitioner()
        sequences = dict.fromkeys(range(application.PARTITIONS), 0)
        producer, epoch = self.broker.new_producer()

        def write(word: str, timestamp: int) -> None:
            key = f"{word}-{timestamp % 7}".encode()
            number = partitions.partitions(application.INPUT, [key], application.PARTITIONS)[0]
            batch = Batch([key], [word.encode()], [timestamp], None, sequences[number])
            sequences[number] += 1
            self.broker.produce({TopicPartition(application.INPUT, number): batch}, producer, epoch, False)

        start_ms = int(EPOCH_SECONDS * 1000)
        for _ in range(random.randrange(10, 60)):
            at = random.choice((0.0, random.uniform(0, INPUT_SECONDS)))
            word = random.choice(WORDS)
            timestamp = start_ms + int(at * 1000)
            self.expected.words.append((word, timestamp))
            self.loop.call_later(at, write, word, timestamp)
        for number in range(random.choice((0, 0, 3))):
            self.loop.call_later(random.uniform(0, INPUT_SECONDS), self._abort, f"upstream-{number}")


def run(seed: int, settings: Settings | None = None) -> Result:
    """Run one seed from the beginning to the end."""
    settings = settings or Settings()
    loop = SimulationLoop(seed)
    if settings.keep_log:
        loop.keep_log()
    made: list[Simulation] = []

    async def whole(folder: Path) -> list[str]:
        simulation = Simulation(loop, settings, folder)
        made.append(simulation)
        with in_place_of_databases([slot.disk for slot in simulation.slots]):
            return await simulation.run()

    logging.disable(logging.CRITICAL)
    try:
        with TemporaryDirectory(prefix="simulation-") as folder:
            problems = list(loop.run_until_complete(whole(Path(folder))))
        problems += [f"unheard: {failure!r}" for failure in loop.failures()]
        result = Result(seed, problems, loop.trace, loop.time() - EPOCH_SECONDS, made[0].deeds, loop.log or [])
        made[0].over = made[0].network.closed = True
        loop.close()
    finally:
        logging.disable(logging.NOTSET)
    return result
