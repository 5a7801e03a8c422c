"""Whole applications on the in-process broker: real worker, real RocksDB, real commits."""

import asyncio
import gc
from datetime import timedelta
from itertools import pairwise

import pytest

from streamlib import EmitStrategy, StreamsBuilder, TimeWindows, serdes
from streamlib.clock import SystemClock
from streamlib.kafka_streams import KafkaStreams
from streamlib.record import Windowed
from streamlib.runtime.commit import TURNS_TO_SEND
from streamlib.state.cache import WriteCache

TEXT = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def upper():
    builder = StreamsBuilder("upper")
    builder.stream("in", **TEXT).map_values(str.upper).to("out")
    return builder.build()


def word_count():
    builder = StreamsBuilder("words")
    (
        builder.stream("sentences", **TEXT)
        .flat_map_values(str.split)
        .group_by(lambda _, word: word)
        .count(store="counts")
        .to_stream()
        .to("counts-out")
    )
    return builder.build()


def latest(rows):
    return {key: value for key, value, _ in rows}


def int64(value: int) -> bytes:
    return value.to_bytes(8, "big")


async def test_records_come_out_transformed_with_their_keys_and_times(app) -> None:
    await app.create(2, "in", "out")
    await app.produce("in", [("a", "x", 5), (None, "y", 6), ("b", "z", 7)])
    await app.run(upper(), "in")
    assert sorted(await app.read("out"), key=lambda row: row[2]) == [
        (b"a", b"X", 5),
        (None, b"Y", 6),
        (b"b", b"Z", 7),
    ]


async def test_headers_travel_with_their_record(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "x", 5)], headers=[[("h", b"1"), ("h", b"2")]])
    await app.run(upper(), "in")
    async with app.opened() as transport:
        from tests.runtime.conftest import read_all

        (batch,) = await read_all(transport, "out")
    assert [list(headers) for headers in batch.headers] == [[("h", b"1"), ("h", b"2")]]


@pytest.mark.parametrize("cache", [0, 1 << 20])
async def test_words_are_counted_across_a_repartition_topic(app, cache: int) -> None:
    await app.create(3, "sentences", "counts-out")
    await app.produce("sentences", [(None, "to be or not to be", n) for n in range(100)])
    streams = await app.run(word_count(), "sentences", "words-counts-repartition", statestore_cache_max_bytes=cache)
    expected = {b"to": 200, b"be": 200, b"or": 100, b"not": 100}
    assert latest(await app.read("counts-out")) == {key: int64(count) for key, count in expected.items()}
    assert latest(await app.read("words-counts-changelog")) == {key: int64(count) for key, count in expected.items()}
    assert streams.tasks == {}


async def test_values_that_nobody_reads_are_not_decoded_again_behind_a_repartition_topic(app) -> None:
    calls: list[bytes] = []

    def decode(data: bytes) -> str:
        calls.append(data)
        return data.decode()

    builder = StreamsBuilder("unread")
    stream = builder.stream("in", serdes.STRING, serdes.Serde("counted", str.encode, decode))
    stream.repartition(name="by-key").group_by_key().count(store="counts").to_stream().to("out")
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "x", n) for n in range(5)])
    await app.run(builder.build(), "in", "unread-by-key-repartition")
    assert latest(await app.read("out")) == {b"a": int64(5)}
    assert len(calls) == 5


async def test_a_second_run_goes_on_from_state_on_disk(app) -> None:
    await app.create(2, "sentences", "counts-out")
    await app.produce("sentences", [(None, "a b a", 1)])
    await app.run(word_count(), "sentences", "words-counts-repartition")
    await app.produce("sentences", [(None, "a c", 2)])
    await app.run(word_count(), "sentences", "words-counts-repartition")
    assert latest(await app.read("counts-out")) == {b"a": int64(3), b"b": int64(1), b"c": int64(1)}


async def test_another_worker_goes_on_from_the_changelog(app) -> None:
    await app.create(2, "sentences", "counts-out")
    await app.produce("sentences", [(None, "a b a", 1)])
    await app.run(word_count(), "sentences", "words-counts-repartition", worker="first")
    await app.produce("sentences", [(None, "a c", 2)])
    await app.run(word_count(), "sentences", "words-counts-repartition", worker="second")
    assert latest(await app.read("counts-out")) == {b"a": int64(3), b"b": int64(1), b"c": int64(1)}


async def test_workers_share_the_tasks_and_a_leaver_s_tasks_go_on_elsewhere(app) -> None:
    await app.create(4, "sentences", "counts-out")
    topology = word_count()
    topics = ("sentences", "words-counts-repartition")
    await app.produce("sentences", [(f"k{n}", "a b c d e f", n) for n in range(200)])
    async with app.streams(topology, worker="stays") as stays:
        async with app.streams(topology, worker="leaves") as leaves:
            async with asyncio.timeout(20):
                while not (len(stays.tasks) == len(leaves.tasks) == 4):
                    await asyncio.sleep(0.02)
            await app.produce("sentences", [(f"k{n}", "a b c d e f", n) for n in range(200, 400)])
            await app.drained(stays, *topics)
            assert {*stays.tasks} | {*leaves.tasks} == {f"{sub}_{p}" for sub in (0, 1) for p in range(4)}
        await app.produce("sentences", [(f"k{n}", "a b c d e f", n) for n in range(400, 600)])
        await app.drained(stays, *topics)
    assert latest(await app.read("counts-out")) == {letter.encode(): int64(600) for letter in "abcdef"}


async def test_tasks_that_have_gone_leave_nothing_in_memory(app) -> None:
    await app.create(4, "sentences", "counts-out")

    def held() -> int:
        return sum(isinstance(each, WriteCache) for each in gc.get_objects())

    async def with_tasks(worker: KafkaStreams, count: int) -> None:
        async with asyncio.timeout(20):
            while list(worker.tasks.values()) != ["running"] * count:
                await asyncio.sleep(0.01)

    after: list[int] = []
    gc.collect()
    gc.disable()
    try:
        async with app.streams(word_count(), worker="stays") as stays:
            for _ in range(3):
                async with app.streams(word_count(), worker="comes and goes"):
                    await with_tasks(stays, 4)
                await with_tasks(stays, 8)
                after.append(held())
    finally:
        gc.enable()
    assert max(after) == after[0]


class Turns(SystemClock):
    """Counts the turns that the event loop is given."""

    given = 0

    async def sleep(self, seconds: float) -> None:
        self.given += not seconds
        await super().sleep(seconds)


class Watched:
    """A transport, or its producer, with the turn and the partition of each column that was appended."""

    def __init__(self, real, clock: Turns, appended: list) -> None:
        self._real, self._clock, self._appended = real, clock, appended

    def __getattr__(self, name):
        return getattr(self._real, name)

    def producer(self, *args, **settings):
        return Watched(self._real.producer(*args, **settings), self._clock, self._appended)

    def append(self, tp, *columns) -> None:
        self._appended.append((self._clock.given, tp))
        self._real.append(tp, *columns)


async def test_what_a_commit_has_flushed_of_a_task_can_be_sent_before_the_next_task_is_flushed(app) -> None:
    builder = StreamsBuilder("counting")
    builder.stream("in", **TEXT).group_by_key().count(store="counts").to_stream().to("out")
    await app.create(4, "in", "out")
    await app.produce("in", [(f"k{number}", "v", number) for number in range(400)])
    clock, appended = Turns(), []
    pairs = {"state_dir": app.state_dir, "processing_guarantee": app.guarantee, "commit_interval_ms": 200}
    async with KafkaStreams(
        builder.build(), pairs, transport=Watched(app.transport(), clock, appended), clock=clock
    ) as streams:
        await app.drained(streams, "in")
    logged = [(turn, tp.partition) for turn, tp in appended if tp.topic == "counting-counts-changelog"]
    assert {partition for _, partition in logged} == {0, 1, 2, 3}
    changes = [(after - before) for (before, one), (after, other) in pairwise(logged) if one != other]
    assert min(changes) >= TURNS_TO_SEND


async def test_a_worker_without_state_on_disk_goes_on_for_longer_than_a_stop_may_take(app) -> None:
    builder = StreamsBuilder("copying")
    builder.stream("in", **TEXT).to("out")
    await app.create(1, "in", "out")
    async with app.streams(builder.build(), shutdown_timeout_ms=100) as streams:
        await asyncio.sleep(0.5)
        await app.produce("in", [("a", "b", 1)])
        await app.drained(streams, "in")
        assert not streams._running.done()
    assert [value for _, value, _ in await app.read("out")] == [b"b"]


async def test_windows_close_by_stream_time_and_late_records_are_counted(app) -> None:
    builder = StreamsBuilder("windows")
    (
        builder.stream("in", **TEXT)
        .group_by_key()
        .windowed_by(TimeWindows.of(timedelta(milliseconds=10)))
        .count(store="counts")
        .to_stream()
        .map(lambda key, count: (f"{key.key}@{key.start}-{key.end}", str(count)), name="readable")
        .to("out", key_serde=serdes.STRING, value_serde=serdes.STRING)
    )
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "v", 1), ("a", "v", 9), ("a", "v", 10), ("a", "v", 25), ("a", "v", 3)])
    streams = await app.run(builder.build(), "in", statestore_cache_max_bytes=0)
    assert [(k, v) for k, v, _ in await app.read("out")] == [
        (b"a@0-10", b"1"),
        (b"a@0-10", b"2"),
        (b"a@10-20", b"1"),
        (b"a@20-30", b"1"),
    ]
    assert streams.metrics.total("dropped_records_total", reason="late") == 1


async def test_rows_too_old_for_their_store_are_counted(app) -> None:
    builder = StreamsBuilder("old")
    windows = TimeWindows.of(timedelta(milliseconds=10), grace=timedelta(minutes=10))
    builder.stream("in", **TEXT).group_by_key().windowed_by(windows).count(store="counts").to_stream().to("out")
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "v", 10_000_000)])
    topology = builder.build()
    await app.run(topology, "in", statestore_cache_max_bytes=0)
    # After a restart the operator begins with a stream time of its own; the store still knows what it has expired.
    await app.produce("in", [("b", "v", 5_000)])
    streams = await app.run(topology, "in", statestore_cache_max_bytes=0)
    assert streams.metrics.total("dropped_records_total", node="counts", reason="expired") == 1


async def test_a_stream_joins_the_table_rows_that_are_not_younger(app) -> None:
    builder = StreamsBuilder("join")
    table = builder.table("table", **TEXT, store="rows")
    builder.stream("stream", **TEXT).left_join(table, lambda left, right: f"{left}+{right}").to("out")
    await app.create(2, "stream", "table", "out")
    await app.produce("stream", [("k", "before", 5), ("k", "after", 15), ("other", "never", 20)])
    await app.produce("table", [("k", "row", 10)])
    await app.run(builder.build(), "stream", "table")
    assert sorted(value for _, value, _ in await app.read("out")) == [b"after+row", b"before+None", b"never+None"]


async def test_a_global_table_is_read_whole_before_the_first_record(app) -> None:
    builder = StreamsBuilder("global")
    names = builder.global_table("names", **TEXT, store="names")
    (
        builder.stream("in", **TEXT)
        .join(names, lambda left, right: f"{left}:{right}", key_selector=lambda key, value: value)
        .to("out")
    )
    await app.create(2, "in", "out")
    await app.create(3, "names")
    await app.produce("names", [(f"id{n}", f"name{n}", 1000) for n in range(50)])
    await app.produce("in", [(f"k{n}", f"id{n}", 1) for n in range(60)])
    await app.run(builder.build(), "in")
    assert sorted(value for _, value, _ in await app.read("out")) == sorted(
        f"id{n}:name{n}".encode() for n in range(50)
    )


async def test_consumed_repartition_records_are_purged(app) -> None:
    await app.create(1, "sentences", "counts-out")
    await app.produce("sentences", [(None, "a b c", 1)])
    async with app.streams(word_count(), repartition_purge_interval_ms=0) as streams:
        await app.drained(streams, "sentences", "words-counts-repartition")
        await app.produce("sentences", [(None, "d", 2)])
        async with asyncio.timeout(10):
            while len(await app.read("words-counts-repartition")) > 0:
                await asyncio.sleep(0.05)


async def test_internal_topics_have_kafka_streams_names_and_configs(app) -> None:
    await app.create(3, "sentences", "counts-out")
    async with app.streams(word_count()):
        pass
    async with app.opened() as transport:
        admin = await transport.admin()
        counts = await admin.partition_counts()
        configs = await admin.topic_configs(["words-counts-changelog", "words-counts-repartition"])
        await admin.close()
    assert counts["words-counts-changelog"] == counts["words-counts-repartition"] == 3
    assert configs["words-counts-changelog"]["cleanup.policy"] == "compact"
    assert configs["words-counts-repartition"]["cleanup.policy"] == "delete"
    assert configs["words-counts-repartition"]["retention.ms"] == "-1"


async def test_stream_time_survives_a_restart(app) -> None:
    builder = StreamsBuilder("time")
    seen: list[int] = []

    def extract(key, value, timestamp, highest):
        seen.append(highest)
        return timestamp

    builder.stream("in", **TEXT, timestamp_extractor=extract).to("out")
    topology = builder.build()
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "x", 700)])
    await app.run(topology, "in")
    await app.produce("in", [("a", "y", 1)])
    await app.run(topology, "in")
    assert seen == [-1, 700]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
async def test_final_results_come_once_when_the_worker_restarts(app, cache_bytes) -> None:
    builder = StreamsBuilder("final")
    (
        builder.stream("in", **TEXT)
        .group_by_key()
        .windowed_by(TimeWindows.of(timedelta(milliseconds=10)))
        .emit_strategy(EmitStrategy.ON_WINDOW_CLOSE)
        .count(store="counts", retention=timedelta(seconds=1))
        .to_stream()
        .map(lambda key, count: (f"{key.key}@{key.start}", str(count)), name="readable")
        .to("out", key_serde=serdes.STRING, value_serde=serdes.STRING)
    )
    topology = builder.build()
    await app.create(1, "in", "out")
    settings = {"statestore_cache_max_bytes": cache_bytes, "emit_interval_ms": 0}
    await app.produce("in", [("a", "v", 1), ("b", "v", 2), ("a", "v", 11)])
    await app.run(topology, "in", **settings)
    await app.produce("in", [("a", "v", 12), ("a", "v", 20)])
    await app.run(topology, "in", worker="w1", **settings)
    assert [(k, v) for k, v, _ in await app.read("out")] == [(b"a@0", b"1"), (b"b@0", b"1"), (b"a@10", b"2")]


def test_a_windowed_key_prints_as_in_java() -> None:
    assert str(Windowed("k", 0, 10)) == "[k@0/10]"
