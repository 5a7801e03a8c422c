"""Bad records on a real Kafka: kept as dead letters, mended, replayed, and counted once."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamlib import StreamsBuilder, Topology, serdes
from streamlib.cli.dlq_replay import Replay
from streamlib.dead_letters import FailedRecord
from streamlib.error_policies import dead_letter
from streamlib.record import TopicPartition
from streamlib.transport.kafka.transport import KafkaTransport
from streamlib.transport.memory import MemoryBroker
from tests.runtime.conftest import Application

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

S, JSON, INT64 = serdes.STRING, serdes.JSON, serdes.INT64
LARGE = 1_200_000
GOOD = [(f"k{number % 7}", "1", number) for number in range(200)]
BAD = [("k1", "{poison", 1_000), ("k2", "0", 1_001), ("k3", f'"{"x" * 10}"', 1_002), ("k4", "0", 1_003)]


class OnKafka(Application):
    def __init__(self, address: str, state_dir: Path, guarantee: Any) -> None:
        super().__init__(MemoryBroker(), state_dir, guarantee)
        self.id = f"dead-{uuid.uuid4().hex[:8]}"
        self._address = address

    def transport(self) -> KafkaTransport:
        return KafkaTransport(self._address)

    def topology(self) -> Topology:
        """Keeps what cannot be decoded, a division by 0, and a result that is too large."""
        builder = StreamsBuilder(self.id)
        divided = builder.stream(f"{self.id}-in", S, JSON).map_values(
            lambda value: value * LARGE if isinstance(value, str) else 100 // value, name="divide", value_serde=JSON
        )
        divided.to(f"{self.id}-out", name="sink")
        divided.filter(lambda _, value: isinstance(value, int)).group_by_key().count(store="counts").to_stream().to(
            f"{self.id}-counts", value_serde=INT64
        )
        return builder.build()


@pytest.fixture(params=["at_least_once", "exactly_once_v2"])
def app(request: pytest.FixtureRequest, kafka_broker: str, tmp_path: Path) -> OnKafka:
    return OnKafka(kafka_broker.removeprefix("kafka://"), tmp_path, request.param)


def mended(record: FailedRecord) -> FailedRecord | None:
    return None if record.key == b"k4" else replace(record, value=b"1")


async def test_bad_records_are_kept_and_count_once_they_are_mended(app: OnKafka) -> None:
    source, dead = f"{app.id}-in", f"{app.id}-dead"
    await app.create(2, source, f"{app.id}-out", f"{app.id}-counts")
    await app.create(2, dead)
    await app.produce(source, [*GOOD[:100], *BAD, *GOOD[100:]], [[("trace", b"1")]])
    letters = dict.fromkeys(("deserialization", "processing", "production"), dead_letter(dead))
    policies: dict[str, Any] = {f"{kind}_exception_handler": policy for kind, policy in letters.items()}
    streams = await app.run(app.topology(), source, **policies)

    kept = sorted((key, value) for key, value, _ in await app.read(dead))
    assert kept == sorted((key.encode(), value.encode()) for key, value, _ in BAD)
    assert len(await app.read(f"{app.id}-out")) == len(GOOD)
    found = {labels["reason"]: amount for name, labels, amount in streams.metrics if name == "dead_letters_total"}
    assert set(found) == {"deserialization-error", "processing-error", "production-error"}
    assert streams.metrics.total("dead_letters_total") == len(BAD)

    async with app.opened() as transport:
        admin = await transport.admin()
        tps = [TopicPartition(dead, number) for number in range(2)]
        replay = Replay(transport, admin, f"{dead}-dlq-replay", mended, None)
        assert await replay.run(tps, 2) in {(2, 0), (1, 1)}
        written, left_out = await replay.run(tps, None)
        assert written + left_out == 2
        assert await replay.run(tps, None) == (0, 0)
        await admin.close()
    await app.produce(source, GOOD[:7])  # behind the markers of the replay's transactions
    await app.run(app.topology(), source, **policies)
    assert len(await app.read(dead)) == len(BAD)
    counts = {key: INT64.deserialize(value) for key, value, _ in await app.read(f"{app.id}-counts")}
    expected = {f"k{number}".encode(): len(GOOD[number::7]) + 1 + (number in (1, 2, 3)) for number in range(7)}
    assert counts == expected
