"""Asynchronous functions in the plan and in the test driver, where time stands still and nothing else runs."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    KStream,
    ProcessingError,
    Processor,
    PunctuationType,
    Record,
    Stores,
    StreamsBuilder,
    Topology,
    TopologyError,
    serdes,
)
from streamlib.testing import TestRecord, TopologyTestDriver
from streamlib.testing.topics import Row
from streamlib.topology.async_nodes import AsyncCalls
from streamlib.topology.commit_waits import commits_wait_for_calls
from streamlib.topology.nodes import RepartitionFilter

S = serdes.STRING


def stream(builder: StreamsBuilder) -> KStream[str, str]:
    return builder.stream("in", S, S)


async def upper(value: str) -> str:
    await asyncio.sleep(0)
    return value.upper()


async def swapped(key: str, value: str) -> tuple[str, str]:
    await asyncio.sleep(0)
    return value, key


async def words(record: Record[str, str]) -> list[Record[str, str]] | None:
    await asyncio.sleep(0)
    found = record.value.split()
    return [record.with_value(word).with_timestamp(record.timestamp + n) for n, word in enumerate(found)] or None


def piped(topology: Topology, *rows: tuple[str, str, int], **settings: Any) -> list[TestRecord[str, str]]:
    with TopologyTestDriver(topology, **settings) as driver:
        driver.pipe_rows("in", [Row(key.encode(), value.encode(), at, (("h", b"1"),)) for key, value, at in rows])
        return driver.create_output_topic("out", S, S).read_records_to_list()


def test_nodes_are_named_by_the_counter_and_shown_as_processors() -> None:
    builder = StreamsBuilder("app")
    stream(builder).map_values_async(upper).map_async(swapped).process_async(words).map_values_async(
        upper, name="mine"
    ).to("out")
    text = builder.build().describe()
    names = ["KSTREAM-MAPVALUES-ASYNC-0000000001", "KSTREAM-MAP-ASYNC-0000000002", "KSTREAM-PROCESS-ASYNC-0000000003"]
    assert [name for name in [*names, "mine"] if f"Processor: {name} (stores: [])" not in text] == []
    assert "KSTREAM-SINK-0000000005" in text


@pytest.mark.parametrize(
    ("operation", "repartitions"),
    [
        (lambda one: one.map_values_async(upper), 0),
        (lambda one: one.map_async(swapped), 1),
        (lambda one: one.process_async(words), 1),
    ],
)
def test_a_count_repartitions_when_keys_may_have_changed(operation: Any, repartitions: int) -> None:
    builder = StreamsBuilder("app")
    operation(stream(builder)).group_by_key().count(store="counts")
    nodes = builder.build().nodes.values()
    assert sum(isinstance(node, RepartitionFilter) for node in nodes) == repartitions


def test_every_option_that_cannot_work_is_told() -> None:
    builder = StreamsBuilder("app")
    stream(builder).map_values_async(
        upper,
        name="calls",
        concurrency=0,
        timeout=timedelta(),
        retries=-1,
        backoff=timedelta(milliseconds=-1),
    )
    stream(builder).map_values_async(5, name="number")  # type: ignore[call-overload]
    with pytest.raises(TopologyError) as caught:
        builder.build()
    assert list(caught.value.problems) == [
        '"calls" needs a concurrency of at least 1, got 0',
        '"calls" needs a timeout in ms of at least 1, got 0',
        '"calls" needs a number of retries of at least 0, got -1',
        '"calls" needs a backoff in ms of at least 0, got -1',
        '"number" needs a function as its mapper, got 5',
    ]


def test_results_have_the_time_and_the_headers_of_their_record() -> None:
    builder = StreamsBuilder("app")
    stream(builder).map_values_async(upper).map_async(swapped).process_async(words).to("out")
    headers = (("h", b"1"),)
    assert piped(builder.build(), ("a b c", "k", 5), ("", "l", 7)) == [
        TestRecord("K", "a", 5, headers),
        TestRecord("K", "b", 6, headers),
        TestRecord("K", "c", 7, headers),
    ]


def test_a_mapper_of_keys_and_values_gets_both() -> None:
    async def both(key: str, value: str) -> str:
        return key + value

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(both, with_key=True).to("out")
    assert [(record.key, record.value) for record in piped(builder.build(), ("k", "v", 1))] == [("k", "kv")]


@pytest.mark.parametrize(("ordered", "wanted"), [(True, ["a3", "b1", "a2", "b0"]), (False, ["b1", "b0", "a3", "a2"])])
def test_results_of_a_batch_come_in_order_or_as_they_end(ordered: bool, wanted: list[str]) -> None:
    turns = [asyncio.Event() for _ in range(4)]

    async def backwards(value: str) -> str:
        turn = int(value[1])
        if turn:
            await turns[turn - 1].wait()
        turns[turn].set()
        return value

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(backwards, ordered=ordered).to("out")
    rows = [("a", "a3", 0), ("b", "b1", 0), ("a", "a2", 0), ("b", "b0", 0)]
    assert [record.value for record in piped(builder.build(), *rows, batch_rows=9)] == wanted


def test_calls_for_one_key_do_not_overlap_when_that_is_asked_for() -> None:
    running: list[str] = []

    async def alone(value: str) -> str:
        assert value not in running
        running.append(value)
        overlaps.add(len(running))
        for _ in range(3):
            await asyncio.sleep(0)
        running.remove(value)
        return value

    overlaps: set[int] = set()
    builder = StreamsBuilder("app")
    stream(builder).map_values_async(alone, one_per_key=True).to("out")
    rows = [(key, key, 0) for key in "aabbabccab"]
    assert [record.value for record in piped(builder.build(), *rows, batch_rows=99)] == list("aabbabccab")
    assert max(overlaps) == 3


@pytest.mark.parametrize(
    ("operation", "words_of_error"),
    [
        (lambda one: one.map_values_async(str.upper), "must be asynchronous, but gave 'V'"),
        (lambda one: one.map_async(lambda k, v: upper(v)), "must give .key, value. pairs, not 'V'"),
        (lambda one: one.process_async(lambda record: upper("v")), "must give records, not 'V'"),
        (lambda one: one.process_async(lambda record: words(Record("k", "a", -1))), "cannot be negative: -1"),
    ],
)
def test_a_result_that_is_not_what_it_should_be_fails_with_the_coordinates(operation: Any, words_of_error: str) -> None:
    builder = StreamsBuilder("app")
    operation(stream(builder).filter(lambda k, v: k != "dropped").map_values(str.upper)).to("out")
    where = r"node=KSTREAM-\S+ topic=in partition=0 offset=1 timestamp=3"
    with TopologyTestDriver(builder.build()) as driver:
        driver.pipe("in", b"dropped", b"v", 1)
        with pytest.raises(ProcessingError, match=rf"{words_of_error}.* {where}"):
            driver.pipe("in", b"k", b"v", 3)


def test_failures_are_skipped_in_their_place_under_that_policy() -> None:
    async def call(value: str) -> str:
        return str(6 // int(value))

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(call).to("out")
    with TopologyTestDriver(builder.build(), {"processing_exception_handler": "skip"}, batch_rows=9) as driver:
        driver.pipe_rows("in", [Row(b"k", str(n).encode(), n) for n in (1, 0, 2, 0, 3)])
        assert [r.value for r in driver.create_output_topic("out", S, S).read_records_to_list()] == ["6", "3", "2"]
        assert driver.metrics.total("dropped_records_total", reason="processing-error") == 2


def test_the_driver_s_clock_stands_still_while_calls_are_tried_again() -> None:
    tries: list[int] = []

    async def third_time(value: str) -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise OSError
        return value

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(third_time, retries=2, backoff=timedelta(hours=1)).to("out")
    with TopologyTestDriver(builder.build(), initial_wall_clock_ms=77) as driver:
        driver.pipe("in", b"k", b"v", 1)
        assert (driver.clock.time_ms(), len(tries)) == (77, 3)
        assert driver.create_output_topic("out", S, S).queue_size == 1


async def test_the_driver_runs_calls_also_inside_a_test_that_is_asynchronous() -> None:
    loops: set[int] = set()
    threads: set[str] = set()

    async def call(value: str) -> str:
        await asyncio.sleep(0.001)
        loops.add(id(asyncio.get_running_loop()))
        threads.add(threading.current_thread().name)
        return value

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(call).to("out")
    assert len(piped(builder.build(), ("a", "1", 1), ("b", "2", 2))) == 2
    assert len(loops) == 1
    assert id(asyncio.get_running_loop()) not in loops
    assert all(name.startswith("streamlib-test-calls") for name in threads)


def test_the_driver_runs_calls_in_the_thread_of_a_test_that_is_not() -> None:
    async def call(value: str) -> str:
        return threading.current_thread().name

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(call).to("out")
    assert [record.value for record in piped(builder.build(), ("a", "1", 1))] == [threading.current_thread().name]


def test_what_a_cache_and_a_punctuator_forward_is_called_for_as_well() -> None:
    class Ticking(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            super().init(context)
            context.schedule(timedelta(seconds=1), PunctuationType.WALL_CLOCK_TIME, self.tick)

        def process(self, record: Record[str, str]) -> None:
            self.context.forward(record)

        def tick(self, now: int) -> None:
            self.context.forward(Record("t", "tick", now))

    builder = StreamsBuilder("app")
    one = stream(builder)
    one.group_by_key().count(store="c").to_stream().map_values(str, value_serde=S).map_values_async(upper).to("out")
    one.process(Ticking, name="ticking", value_serde=S).map_values_async(upper).to("out")
    with TopologyTestDriver(builder.build(), batch_rows=9, commit_rows=9) as driver:
        out = driver.create_output_topic("out", S, S)
        driver.pipe_rows("in", [Row(b"k", b"a", 1), Row(b"k", b"b", 2)])
        assert sorted(out.read_values_to_list()) == ["2", "A", "B"]
        driver.advance_wall_clock_time(timedelta(seconds=1))
        assert out.read_values_to_list() == ["TICK"]


def test_an_explanation_has_the_result_of_a_call_and_its_error() -> None:
    async def call(value: str) -> str:
        return str(6 // int(value))

    builder = StreamsBuilder("app")
    stream(builder).map_values_async(call, name="calls").to("out")
    with TopologyTestDriver(builder.build(), {"processing_exception_handler": "skip"}) as driver:
        assert str(driver.explain("in", b"k", b"2", 1)).splitlines() == [
            "calls: mapper('2') -> '3'",
            "out <- 'k': '3' @ 1",
        ]
        (failed,) = driver.explain("in", b"k", b"0", 1).calls
        assert isinstance(failed.result, ZeroDivisionError)


class Stateful(Processor[str, str, str, str]):
    @staticmethod
    def stores() -> list[Any]:
        return [Stores.key_value_store("seen", S, S)]

    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record)


@pytest.mark.parametrize(
    ("above", "waits"),
    [
        (lambda one: one.filter(lambda k, v: True).flat_map_values(str.split), False),
        (lambda one: one.map_values_async(upper), False),
        (lambda one: one.process(Stateful, name="stateful", value_serde=S), True),
        (lambda one: one.group_by_key().count(store="c").to_stream().map_values(str, value_serde=S), True),
        (lambda one: one.to_table(store="t").to_stream(), True),
        (lambda one: one.select_key(lambda k, v: v).repartition(name="apart"), False),
    ],
)
def test_commits_wait_for_calls_only_where_a_row_would_not_come_back(above: Any, waits: bool) -> None:
    builder = StreamsBuilder("app")
    above(stream(builder)).map_values_async(upper, name="last").group_by_key().count(store="below")
    topology = builder.build()
    (sub,) = [each for each in topology.subtopologies if "last" in each.nodes]
    assert isinstance(topology.nodes["last"], AsyncCalls)
    assert commits_wait_for_calls(topology, sub) is waits


@pytest.mark.parametrize(("grace", "waits"), [(None, False), (timedelta(seconds=1), True)])
def test_commits_wait_for_calls_behind_a_join_only_if_records_wait_in_it(grace: timedelta | None, waits: bool) -> None:
    builder = StreamsBuilder("app")
    table = builder.table("t", S, S, store="t", **({} if grace is None else {"versioned": timedelta(hours=1)}))
    joined = stream(builder).join(table, lambda left, right: left + right, grace=grace, value_serde=S, name="join")
    joined.map_values_async(upper).to("out")
    topology = builder.build()
    (sub,) = topology.subtopologies
    assert commits_wait_for_calls(topology, sub) is waits
