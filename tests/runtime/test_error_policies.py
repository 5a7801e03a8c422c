"""Error policies under a worker: dead letters with what was committed, records tried again, too large, too many."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.dead_letters import FailedRecord, failed_record
from streamlib.error_policies import dead_letter, retry, skip
from streamlib.errors import ConfigError, MissingTopicError, ProductionError, TooManyErrorsError
from tests.runtime.conftest import read_all

S, JSON, N = serdes.STRING, serdes.JSON, serdes.INT64
LARGE = 1_100_000


def numbers(divide: Any = lambda value: 100 // value, **policies: Any) -> Any:
    builder = StreamsBuilder("numbers")
    (
        builder.stream("in", S, JSON, on_error=policies.get("bytes"))
        .map_values(divide, name="divide", value_serde=N, on_error=policies.get("function"))
        .group_by_key()
        .reduce(lambda total, value: total + value, store="sums")
        .to_stream()
        .to("out", key_serde=S, value_serde=N)
    )
    return builder.build()


async def sums(app: Any) -> dict[bytes, int]:
    return {key: int.from_bytes(value, "big") for key, value, _ in await app.read("out")}


async def letters(app: Any, topic: str = "dead") -> list[FailedRecord]:
    async with app.opened() as transport:
        batches = await read_all(transport, topic)
    return [
        failed_record(*row)
        for batch in batches
        for row in zip(batch.keys, batch.values, batch.timestamps, batch.headers or [()] * len(batch), strict=True)
    ]


async def test_records_that_fail_are_kept_once_with_what_was_committed(app) -> None:
    await app.create(2, "in", "out")
    await app.create(1, "dead")
    await app.produce(
        "in", [("a", "10", 1), ("a", "{", 2), ("a", "0", 3), ("b", "0", 4), ("a", "20", 5)], [[("h", b"1")]]
    )
    topology = numbers(bytes=dead_letter("dead"), function=dead_letter("dead"))
    streams = await app.run(topology, "in")
    assert await sums(app) == {b"a": 15}
    found = {(letter.key, letter.value): letter for letter in await letters(app)}
    assert set(found) == {(b"a", b"{"), (b"a", b"0"), (b"b", b"0")}
    assert len(await letters(app)) == 3
    undecodable, failed = found[b"a", b"{"], found[b"a", b"0"]
    assert (undecodable.offset, undecodable.timestamp, undecodable.node) == (1, 2, "KSTREAM-SOURCE-0000000000")
    assert (failed.topic, failed.offset, failed.timestamp, failed.node) == ("in", 2, 3, "divide")
    assert (failed.exception, list(failed.headers)) == ("ZeroDivisionError", [("h", b"1")])
    assert streams.metrics.total("dead_letters_total") == 3
    assert streams.metrics.total("dropped_records_total") == 0


async def test_a_dead_letter_topic_that_does_not_exist_is_refused_at_the_start(app) -> None:
    await app.create(1, "in", "out")
    with pytest.raises(ConfigError, match=r'do not exist: "dead"'):
        await app.run(numbers(function=dead_letter("dead")), "in")
    with pytest.raises(ConfigError, match=r'do not exist: "failed"'):
        await app.run(numbers(function=dead_letter()), "in", errors_dead_letter_queue_topic_name="failed")
    with pytest.raises(ConfigError, match="needs the setting errors_dead_letter_queue_topic_name"):
        await app.run(numbers(function=dead_letter()), "in")


async def test_a_topic_that_only_a_function_names_is_missed_when_it_is_needed(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "0", 1)])
    with pytest.raises(MissingTopicError, match=r'dead letter topic "surprise" does not exist'):
        await app.run(numbers(function=lambda _, __: dead_letter("surprise")), "in")


class Away:
    """A service that is away for the first calls with 0."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls = 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if value == 0 and self.left:
            self.left -= 1
            raise OSError("away")
        return value


async def test_a_record_is_tried_again_until_it_passes(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1), ("a", "0", 2), ("a", "5", 3)])
    away = Away(3)
    await app.run(numbers(away, function=retry(3, timedelta(milliseconds=20))), "in")
    assert (await sums(app))[b"a"] == 6
    assert away.left == 0


async def test_the_last_policy_holds_when_a_record_never_passes(app) -> None:
    await app.create(1, "in", "out", "dead")
    await app.produce("in", [("a", "1", 1), ("a", "0", 2), ("a", "5", 3)])
    away = Away(1_000)
    streams = await app.run(numbers(away, function=retry(2, then=dead_letter("dead"))), "in")
    assert (await sums(app))[b"a"] == 6
    assert [letter.value for letter in await letters(app)] == [b"0"]
    assert away.left == 1_000 - 3
    assert streams.metrics.total("dead_letters_total") == 1


def enlarging(**policy: Any) -> Any:
    builder = StreamsBuilder("enlarging")
    stream = builder.stream("in", S, S)
    stream.map_values(lambda value: value * LARGE if value == "x" else value).to("out", name="sink", **policy)
    return builder.build()


async def test_a_record_that_is_too_large_stops_the_worker_with_its_size_and_key(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1), ("b", "x", 2)])
    with pytest.raises(ProductionError, match=rf"node=sink key='b' input offset=1: .* record of {LARGE + 1} bytes"):
        await app.run(enlarging(), "in")


async def test_only_the_record_that_is_too_large_is_left_out(app) -> None:
    await app.create(1, "in", "out", "dead")
    await app.produce("in", [("a", "1", 1), ("b", "x", 2), ("c", "3", 3), ("d", "x", 4), ("e", "5", 5)])
    await app.run(enlarging(on_error=dead_letter("dead")), "in")
    assert [value for _, value, _ in await app.read("out")] == [b"1", b"3", b"5"]
    assert [(letter.key, letter.value, letter.offset) for letter in await letters(app)] == [
        (b"b", b"x", 1),
        (b"d", b"x", 3),
    ]


async def test_a_failed_asynchronous_call_leaves_the_record_as_it_was_read(app) -> None:
    async def slow(value: int) -> int:
        await asyncio.sleep(0.02 if value else 0.2)
        return 100 // value

    builder = StreamsBuilder("calling")
    stream = builder.stream("in", S, JSON)
    stream.map_values_async(slow, value_serde=N, on_error=dead_letter("dead"), concurrency=2, name="slow").to("out")
    await app.create(1, "in", "out", "dead")
    await app.produce("in", [("a", str(n), n) for n in (0, 1, 2, 0, *range(4, 30))])
    await app.run(builder.build(), "in", max_poll_records=3)
    assert len(await app.read("out")) == 28
    assert [(letter.value, letter.offset, letter.node) for letter in await letters(app)] == [
        (b"0", 0, "slow"),
        (b"0", 3, "slow"),
    ]


async def test_a_worker_stops_when_too_many_of_its_records_fail(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "0" if n % 2 else "1", n) for n in range(100)])
    with pytest.raises(TooManyErrorsError, match=r"records of the last minute failed.*offset=\d+"):
        await app.run(numbers(function=skip()), "in", errors_max_share=0.3)
    streams = await app.run(numbers(function=skip()), "in", errors_max_share=0.6)
    assert streams.metrics.total("dropped_records_total", reason="processing-error") == 50
