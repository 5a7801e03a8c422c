"""Tables with unequal numbers of partitions joined by foreign key, over several workers."""

import asyncio
from typing import Any

import pytest

from streamlib import StreamsBuilder, Topology, serdes
from streamlib.record import TopicPartition

LEFT_PARTITIONS, RIGHT_PARTITIONS = 3, 2
LEFT = {f"l{number}": f"r{number % 7}:{number}" for number in range(60)}
RIGHT = {f"r{number}": f"v{number}" for number in range(5)}


def topology(**options: Any) -> Topology:
    builder = StreamsBuilder("app")
    left = builder.table("left", serdes.STRING, serdes.STRING, store="l")
    right = builder.table("right", serdes.STRING, serdes.STRING, store="r")
    left.left_join(
        right, lambda a, b: f"{a}+{b}", foreign_key=lambda key, value: value.split(":")[0] or None, name="j", **options
    ).to_stream().to("out")
    return builder.build()


def wanted(left: dict[str, str], right: dict[str, str]) -> dict[str, str]:
    return {key: f"{value}+{right.get(value.split(':')[0])}" for key, value in left.items()}


async def results(app: Any, streams: Any, expected: dict[str, str], seconds: float = 20) -> dict[str, str]:
    """The last value of each key, once they are as expected or time is up."""
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(seconds):
            while found != expected:
                assert not streams.failed
                await asyncio.sleep(0.05)
                rows = {key.decode(): value for key, value, _ in await app.read("out")}
                found = {key: value.decode() for key, value in rows.items() if value is not None}
    except TimeoutError:
        pass
    return found


def rows(table: dict[str, Any]) -> list[tuple[str, Any, int]]:
    return [(key, value, 1) for key, value in table.items()]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
async def test_rows_find_each_other_when_the_tables_have_unequal_partition_counts(app, cache_bytes: int) -> None:
    await app.create(LEFT_PARTITIONS, "left", "out")
    await app.create(RIGHT_PARTITIONS, "right")
    left, right = dict(LEFT), dict(RIGHT)
    await app.produce("left", rows(left))
    async with app.streams(topology(), statestore_cache_max_bytes=cache_bytes) as first:
        await app.produce("right", rows(right))
        assert await results(app, first, wanted(left, right)) == wanted(left, right)
    moved = {"l1": "r2:moved", "l2": "r9:moved", "l3": ":moved", "l4": None}
    changed = {"r0": "new", "r3": None, "r9": "appeared"}
    async with app.streams(topology(), worker="w1", statestore_cache_max_bytes=cache_bytes) as second:
        await app.produce("left", rows(moved))
        await app.produce("right", rows(changed))
        left = {key: value for key, value in (left | moved).items() if value is not None}
        right = {key: value for key, value in (right | changed).items() if value is not None}
        assert await results(app, second, wanted(left, right)) == wanted(left, right)


async def test_partitioners_decide_when_the_tables_are_not_partitioned_by_key(app) -> None:
    def last(key: str | None, value: None, partitions: int) -> int:
        return partitions - 1

    await app.create(LEFT_PARTITIONS, "left", "out")
    await app.create(RIGHT_PARTITIONS, "right")
    async with app.opened() as transport:
        producer = transport.producer()
        await producer.start()
        for topic, table, count in (("left", LEFT, LEFT_PARTITIONS), ("right", RIGHT, RIGHT_PARTITIONS)):
            keys, values = [key.encode() for key in table], [value.encode() for value in table.values()]
            producer.append(TopicPartition(topic, count - 1), keys, values, [1] * len(keys))
        await producer.flush()
        await producer.close()
    async with app.streams(topology(partitioner=last, other_partitioner=last)) as streams:
        assert await results(app, streams, wanted(LEFT, RIGHT)) == wanted(LEFT, RIGHT)
