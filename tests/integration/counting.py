"""An application that counts words behind a repartition topic: its load, its workers, and what came out of it.

Words are written in turn, so every key is counted about as often, and a lost record shows in its key.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from streamlib import StreamsBuilder, serdes
from streamlib.kafka_streams import KafkaStreams
from streamlib.record import TopicPartition
from streamlib.runtime.restore import RestoreListener
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin, TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport

APP = """
from tests.integration.counting import counting

topology = counting({name!r})
"""
ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"word-{number}" for number in range(200)]
SETTINGS = {
    "commit_interval_ms": 500,
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 500,
    "rebalance_timeout_ms": 10_000,
}


def counting(name: str, store: str = "counts") -> Topology:
    """Count the values of ``name-in`` to ``name-out``."""
    builder = StreamsBuilder(name)
    (
        builder.stream(f"{name}-in", serdes.STRING, serdes.STRING)
        .group_by(lambda _, word: word)
        .count(store=store)
        .to_stream()
        .to(f"{name}-out", key_serde=serdes.STRING, value_serde=serdes.INT64)
    )
    return builder.build()


class Worker:
    """A process ``streamlib worker``, with a state directory and a log of its own."""

    def __init__(self, command: list[str], log: Path, folder: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def text(self) -> str:
        """Everything it has logged."""
        return self.log.read_text()

    def tasks(self) -> set[str]:
        """The tasks it was last given."""
        found = re.findall(r"assigned tasks: (.*)", self.text)
        return set(re.findall(r"\d+_\d+", found[-1])) if found else set()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = 40) -> int:
        """Its exit code, once it has ended."""
        await until(lambda: self.process.poll() is not None, seconds, self)
        return self.process.returncode

    async def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.send(number)
        return await self.ended()


async def until(happened: Callable[[], object], seconds: float, worker: Worker | None = None) -> float:
    """Seconds until something has happened."""
    began = time.monotonic()
    while not happened():
        passed = time.monotonic() - began
        assert passed < seconds, f"not within {seconds:g} s" + ("" if worker is None else f"; {worker.text[-5000:]}")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


class Counting:
    """One application on a broker.

    Attributes:
        name: Its application id, and the first part of its topics' names.
        expected: How often each word was written.
    """

    def __init__(self, broker: str, folder: Path) -> None:
        self.name = f"count-{uuid.uuid4().hex[:8]}"
        self.broker = broker
        self.folder = folder
        self.expected: Counter[str] = Counter()
        self.workers: list[Worker] = []
        self._transport = KafkaTransport(broker)
        self._admin: Admin | None = None
        self._written = 0
        self._partitions = 0

    async def create(self, partitions: int) -> None:
        """Make the topics."""
        self._partitions = partitions
        admin = await self.admin()
        await admin.create_topics([TopicSpec(f"{self.name}-{end}", partitions, 1) for end in ("in", "out")])
        (self.folder / "app.py").write_text(APP.format(name=self.name))

    async def admin(self) -> Admin:
        """A connected admin, closed by `close`."""
        if self._admin is None:
            self._admin = await self._transport.admin()
        return self._admin

    def worker(self, name: str, *arguments: str, state: str | None = None, **settings: object) -> Worker:
        """Start a worker process, with a state directory of its own or that of an earlier one."""
        pairs = {**SETTINGS, **settings}
        options = [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "streamlib", "worker", "app:topology", *arguments]
        command += ["--broker", f"kafka://{self.broker}", "--state-dir", str(self.folder / (state or name)), *options]
        worker = Worker(command, self.folder / f"{name}.log", self.folder)
        self.workers.append(worker)
        return worker

    def streams(
        self,
        name: str,
        topology: Topology | None = None,
        listener: RestoreListener | None = None,
        **settings: object,
    ) -> KafkaStreams:
        """The application in this process."""
        pairs = {**SETTINGS, "state_dir": self.folder / name, **settings}
        broker = f"kafka://{self.broker}"
        return KafkaStreams(topology or counting(self.name), pairs, broker=broker, listener=listener)

    async def write(self, records: int) -> None:
        """Write the next words, and return once the broker has them."""
        async with self._writing() as write:
            write(records)

    @asynccontextmanager
    async def load(self, per_second: int) -> AsyncIterator[None]:
        """Write words all the time, until the block ends; then everything has arrived."""
        async with self._writing() as write:
            stop = asyncio.Event()

            async def go_on() -> None:
                while not stop.is_set():
                    write(per_second // 20)
                    await asyncio.sleep(0.05)

            writing = asyncio.create_task(go_on())
            try:
                yield
            finally:
                stop.set()
                await writing

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Callable[[int], None]]:
        producer = self._transport.producer()
        await producer.start()

        def write(records: int) -> None:
            words = [WORDS[number % len(WORDS)] for number in range(self._written, self._written + records)]
            self._written += records
            self.expected.update(words)
            for partition in range(self._partitions):
                mine = words[partition :: self._partitions]
                values = [word.encode() for word in mine]
                producer.append(
                    TopicPartition(f"{self.name}-in", partition), [None] * len(mine), values, [1] * len(mine)
                )

        try:
            yield write
            await producer.flush()
        finally:
            await producer.kill()

    async def uncommitted(self) -> int:
        """Records of the input and of the repartition topic that are not committed."""
        admin = await self.admin()
        topics = [f"{self.name}-in", f"{self.name}-counts-repartition"]
        if len(await admin.partition_counts(topics)) < len(topics):
            return sum(self.expected.values())
        tps = [TopicPartition(topic, number) for topic in topics for number in range(self._partitions)]
        ends = await admin.end_offsets(tps)
        first = await admin.beginning_offsets(tps)
        held = await admin.group_offsets(self.name)
        return sum(ends[tp] - (held[tp].offset if tp in held else first[tp]) for tp in tps)

    async def drained(self, seconds: float = 60) -> float:
        """Seconds until everything is committed."""
        began = time.monotonic()
        while await self.uncommitted():
            assert time.monotonic() - began < seconds, self.logs()
            for worker in self.workers:
                assert worker.process.poll() in {None, 0, -signal.SIGKILL}, worker.text[-5000:]
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def counts(self, topic: str = "counts-changelog") -> dict[str, int]:
        """The newest count of each word."""
        admin = await self.admin()
        tps = [TopicPartition(f"{self.name}-{topic}", number) for number in range(self._partitions)]
        ends = await admin.end_offsets(tps)
        consumer = self._transport.consumer()
        await consumer.start()
        newest: dict[str, int] = {}
        try:
            consumer.assign(await admin.beginning_offsets(tps))
            while any((consumer.position(tp) or 0) < ends[tp] for tp in tps):
                for batch in (await consumer.poll(tps, max_records=100_000, timeout_ms=100)).values():
                    for key, value in zip(batch.keys, batch.values, strict=True):
                        assert key is not None
                        assert value is not None
                        newest[key.decode()] = int.from_bytes(value, "big")
        finally:
            await consumer.close()
        return newest

    async def exact(self, seconds: float = 60) -> float:
        """Seconds until the output has every word exactly as often as it was written."""
        began = time.monotonic()
        while (counts := await self.counts("out")) != self.expected:
            assert all(count <= self.expected[word] for word, count in counts.items()), f"counted twice\n{self.logs()}"
            assert time.monotonic() - began < seconds, self.logs()
            await asyncio.sleep(0.2)
        return time.monotonic() - began

    async def lost(self) -> dict[str, int]:
        """Words counted less often than they were written."""
        counts = await self.counts()
        return {word: n - counts.get(word, 0) for word, n in self.expected.items() if counts.get(word, 0) < n}

    async def check(self) -> None:
        """No word is counted too seldom, and none too often unless a worker said that it repeats work."""
        assert await self.lost() == {}, self.logs()
        if not re.search("uncommitted work is dropped|will be done again", "".join(w.text for w in self.workers)):
            assert await self.counts() == self.expected

    def logs(self) -> str:
        """The end of every worker's log."""
        return "\n".join(f"--- {worker.log.name}\n{worker.text[-3000:]}" for worker in self.workers)

    async def close(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()
        if self._admin is not None:
            await self._admin.close()


def given(workers: Iterable[Worker]) -> list[set[str]]:
    """The tasks that each worker was last given."""
    return [worker.tasks() for worker in workers]
