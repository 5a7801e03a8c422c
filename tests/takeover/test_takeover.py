"""A Kafka Streams application goes on in streamlib, and a streamlib application in Kafka Streams.

Each works off half of the input and stops; the other goes on under the same application id, from its changelog and
repartition topics and its committed offsets. The final results are those of a Kafka Streams application that was never
interrupted, byte for byte.
"""

import asyncio
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamlib import KafkaStreams
from streamlib.record import TopicPartition
from streamlib.serdes import INT64, STRING
from streamlib.transport.base import Admin, TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport
from streamlib.transport.partitioner import partition_for
from tests.maven import java
from tests.takeover.application import INPUTS, OUTPUTS, take_over

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 3
RECORDS = 3_000
NOW_MS = int(time.time() * 1000) - 600_000

Row = tuple[str, bytes, bytes | None, int]


def rows(half: int) -> list[Row]:
    """Topic, key, value and timestamp of one half of the input; sales are out of order by up to a minute."""
    chance = random.Random(half)
    found: list[Row] = []
    for number in range(half * RECORDS, (half + 1) * RECORDS):
        time_ms = NOW_MS + number * 50
        customer = STRING.serialize(f"customer-{chance.randrange(50)}")
        late_ms = chance.choice([0, 0, 20_000, 60_000])
        found.append(("sales", customer, INT64.serialize(chance.randrange(1_000)), time_ms - late_ms))
        if number % 10 == 0:
            text = STRING.serialize(f"name-{chance.randrange(100)}")
            found.append(("names", customer, None if number % 130 == 0 else text, time_ms))
        if number % 15 == 0:
            text = STRING.serialize(f"city-{chance.randrange(100)}")
            found.append(("cities", customer, None if number % 210 == 0 else text, time_ms))
    return found


class Ground:
    """Topics on a broker, and the two engines on them."""

    def __init__(self, broker: str, folder: Path, admin: Admin) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.inputs = f"{self.id}-in"
        self._broker = broker
        self._folder = folder
        self._admin = admin
        self._transport = KafkaTransport(broker)

    async def create(self, *outputs: str) -> None:
        """Make the topics of the input and of some applications."""
        names = [f"{self.inputs}-{name}" for name in INPUTS]
        names += [f"{application}-{name}" for application in outputs for name in OUTPUTS]
        await self._admin.create_topics([TopicSpec(name, PARTITIONS, 1) for name in names])

    async def load(self, half: int) -> None:
        """Write one half of the input."""
        producer = self._transport.producer()
        await producer.start()
        try:
            for topic, key, value, timestamp in rows(half):
                tp = TopicPartition(f"{self.inputs}-{topic}", partition_for(key, PARTITIONS))
                producer.append(tp, [key], [value], [timestamp])
            await producer.flush()
        finally:
            await producer.kill()

    async def kafka_streams(self, application: str, run: int = 1) -> None:
        """Let Kafka Streams work off what is there."""
        state, log = self._folder / f"java-{application}-{run}", self._folder / f"java-{application}-{run}.log"
        command = java(
            Path(__file__).parent / "java",
            "TakeOver",
            *(self._broker, application, self.inputs, application, str(state)),
            options=["-XX:TieredStopAtLevel=1", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"],
        )
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)
        try:
            await self._drained(application, log)
            assert process.returncode is None, log.read_text()[-3000:]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 128 + signal.SIGTERM, log.read_text()[-3000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def streamlib(self, application: str, run: int = 1) -> None:
        """Let streamlib work off what is there."""
        topology = take_over(application, self.inputs, application)
        settings = {"state_dir": self._folder / f"python-{application}-{run}", "commit_interval_ms": 500}
        async with KafkaStreams(topology, settings, broker=f"kafka://{self._broker}"):
            await self._drained(application)

    async def _drained(self, application: str, log: Path | None = None, seconds: float = 60) -> None:
        """Return once the application has committed everything it reads."""
        until = time.monotonic() + seconds
        repartition = f"{application}-by-bucket-repartition"
        topics = [*(f"{self.inputs}-{name}" for name in INPUTS), repartition]
        while time.monotonic() < until:
            await asyncio.sleep(0.2)
            if repartition not in await self._admin.partition_counts([repartition]):
                continue
            tps = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
            ends, held = await self._admin.end_offsets(tps), await self._admin.group_offsets(application)
            if all(ends[tp] == 0 or (tp in held and held[tp].offset >= ends[tp]) for tp in tps):
                return
        told = "" if log is None else log.read_text()[-3000:]
        pytest.fail(f"{application} did not commit everything within {seconds:g} s: {told}")

    async def results(self, application: str) -> dict[str, dict[bytes, bytes | None]]:
        """The last value of each key in each output topic, as bytes; keys deleted last are left out.

        Whether the deletion of a row that never was is written depends on which table came first.
        """
        found: dict[str, dict[bytes, bytes | None]] = {}
        for name in OUTPUTS:
            tps = [TopicPartition(f"{application}-{name}", number) for number in range(PARTITIONS)]
            ends, last = await self._admin.end_offsets(tps), found.setdefault(name, {})
            consumer = self._transport.consumer()
            await consumer.start()
            try:
                consumer.assign(await self._admin.beginning_offsets(tps))
                while any((consumer.position(tp) or 0) < ends[tp] for tp in tps):
                    for batch in (await consumer.poll(tps, max_records=10_000, timeout_ms=100)).values():
                        last.update(zip((key or b"" for key in batch.keys), batch.values, strict=True))
            finally:
                await consumer.close()
        return {name: {key: value for key, value in last.items() if value} for name, last in found.items()}


@asynccontextmanager
async def ground(broker: str, folder: Path) -> AsyncIterator[Ground]:
    """A ground, cleared away at the end."""
    admin = await KafkaTransport(broker).admin()
    try:
        yield Ground(broker, folder, admin)
    finally:
        await admin.close()


async def test_either_engine_goes_on_when_the_other_has_stopped(kafka_broker: str, tmp_path: Path) -> None:
    async with ground(kafka_broker, tmp_path) as shared:
        whole, there, back = (f"{shared.id}-{name}" for name in ("whole", "there", "back"))
        await shared.create(whole, there, back)
        await shared.load(0)
        await shared.kafka_streams(there)
        await shared.streamlib(back)
        await shared.load(1)
        await shared.streamlib(there, 2)
        await shared.kafka_streams(back, 2)
        await shared.kafka_streams(whole)
        expected = await shared.results(whole)
        assert all(expected.values())
        assert await shared.results(there) == expected
        assert await shared.results(back) == expected
