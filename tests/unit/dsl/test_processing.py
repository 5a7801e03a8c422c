"""Processors in a topology, run by the TopologyTestDriver: its task, operators and stores are those of a worker."""

import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    FixedKeyProcessor,
    FixedKeyRecord,
    KeyValueStore,
    ProcessingError,
    Processor,
    PunctuationType,
    Record,
    RecordMetadata,
    StateStoreError,
    Stores,
    StreamsBuilder,
    StreamsConfig,
    TopologyBuilder,
    TopologyError,
    UnstableNameWarning,
    ValueTransformerWithKey,
    serdes,
)
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver

S, I = serdes.STRING, serdes.INT64  # noqa: E741
COUNTS = Stores.key_value_store("counts", S, I)
SECOND = timedelta(seconds=1)

Drive = Callable[..., TopologyTestDriver]


@pytest.fixture
def drive() -> Iterator[Drive]:
    drivers: list[TopologyTestDriver] = []

    def make(builder: StreamsBuilder, **options: Any) -> TopologyTestDriver:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnstableNameWarning)
            topology = builder.build()
        config = StreamsConfig(
            "app", processing_exception_handler=options.pop("on_error", "fail"), **options.pop("config", {})
        )
        drivers.append(TopologyTestDriver(topology, config, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()


def builder() -> StreamsBuilder:
    return StreamsBuilder("app", default_key_serde=S, default_value_serde=I)


def pipe(driver: TopologyTestDriver, *rows: tuple[str | None, int | None, int]) -> None:
    """All in one poll."""
    raw = [
        Row(*S.serialize_many([key]), *I.serialize_many([value]), timestamp, [("h", key and key.encode())])
        for key, value, timestamp in rows
    ]
    driver.pipe_rows("in", raw)


def out(driver: TopologyTestDriver, topic: str = "out", values: Any = I) -> list[tuple[Any, ...]]:
    records = driver.create_output_topic(topic, S, values).read_records_to_list()
    return [(record.key, record.value, record.timestamp_ms) for record in records]


def processor(process: Callable[[Any, Record[Any, Any]], None], **methods: Any) -> type[Processor[Any, Any, Any, Any]]:
    return type("Given", (Processor,), {"process": process, **methods})


class Count(Processor[str, int, str, int]):
    def init(self, context: Any) -> None:
        super().init(context)
        self.counts: KeyValueStore[str, int] = context.get_state_store("counts")

    def process(self, record: Record[str, int]) -> None:
        count = (self.counts.get(record.key) or 0) + 1
        self.counts.put(record.key, count)
        self.context.forward(record.with_value(count))

    @staticmethod
    def stores() -> list[Any]:
        return [COUNTS]


# ---- records ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_processor_sees_the_record_at_hand_also_in_batches(drive: Drive, batch_rows: int) -> None:
    seen: list[Any] = []

    def process(self: Any, record: Record[str, int]) -> None:
        at = self.context
        seen.append((record, at.record_metadata, at.current_stream_time_ms, at.current_system_time_ms))

    b = builder()
    b.stream("in").filter(lambda _, value: value != 2).process(processor(process))
    pipe(drive(b, batch_rows=batch_rows, initial_wall_clock_ms=7), ("a", 1, 10), ("b", 2, 90), ("c", 3, 20))
    assert seen == [
        (Record("a", 1, 10, [("h", b"a")]), RecordMetadata("in", 0, 0), 10, 7),
        (Record("c", 3, 20, [("h", b"c")]), RecordMetadata("in", 0, 2), 90, 7),
    ]


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_records_go_to_one_child_or_to_all_in_the_order_they_are_forwarded(drive: Drive, batch_rows: int) -> None:
    def process(self: Any, record: Record[str, int]) -> None:
        self.context.forward(record.with_value(record.value * 10), to="left")
        self.context.forward(record.with_value(record.value * 100))
        self.context.forward(record.with_value(record.value * 1000), to="right")

    b = builder()
    processed = b.stream("in").process(processor(process))
    left, right = (
        processed.map_values(lambda v: v + 1, name="left"),
        processed.map_values(lambda v: v + 2, name="right"),
    )
    left.merge(right).to("out")
    driver = drive(b, batch_rows=batch_rows)
    pipe(driver, ("a", 1, 0), ("b", 2, 0))
    assert [value for _, value, _ in out(driver)] == [11, 101, 102, 1002, 21, 201, 202, 2002]


def test_keys_timestamps_and_headers_are_those_of_the_forwarded_record(drive: Drive) -> None:
    def process(self: Any, record: Record[str, int]) -> None:
        self.context.forward(record.with_key("k").with_timestamp(99).with_headers([("x", None)]))

    b = builder()
    b.stream("in").process(processor(process)).to("out")
    driver = drive(b)
    pipe(driver, ("a", 1, 0))
    record = driver.create_output_topic("out", S, I).read_record()
    assert (record.key, record.value, record.timestamp_ms, record.headers) == ("k", 1, 99, (("x", None),))


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (
            lambda self, record: self.context.forward(record, to="nobody"),
            'no child "nobody" to forward to.*"KSTREAM-SINK',
        ),
        (lambda self, record: self.context.forward(record.with_timestamp(-1)), "timestamp cannot be negative: -1"),
        (lambda self, record: 1 // 0, "ZeroDivisionError.*node=p topic=in partition=0 offset=0 timestamp=5"),
        (lambda self, record: self.context.schedule(timedelta(), PunctuationType.STREAM_TIME, print), "least is 1 ms"),
    ],
)
def test_what_user_code_does_wrong_is_reported_with_its_place(drive: Drive, process: Any, message: str) -> None:
    b = builder()
    b.stream("in").process(processor(process), name="p").to("out")
    with pytest.raises(ProcessingError, match=message):
        pipe(drive(b), ("a", 1, 5))


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_only_the_failing_record_is_lost_when_errors_are_skipped(drive: Drive, batch_rows: int) -> None:
    def process(self: Any, record: Record[str, int]) -> None:
        self.context.forward(record)
        self.context.forward(record.with_value(6 // record.value))

    b = builder()
    b.stream("in").process(processor(process)).to("out")
    driver = drive(b, batch_rows=batch_rows, on_error="skip")
    pipe(driver, ("a", 3, 0), ("b", 0, 1), ("c", 2, 2))
    assert out(driver) == [("a", 3, 0), ("a", 2, 0), ("b", 0, 1), ("c", 2, 2), ("c", 3, 2)]
    assert driver.metrics.total("dropped_records_total", reason="processing-error") == 1


# ---- fixed keys ------------------------------------------------------------------------------------------


def test_keys_stay_and_nothing_is_repartitioned_when_only_values_are_processed(drive: Drive) -> None:
    class Plus(FixedKeyProcessor[str, int, int]):
        def process(self, record: FixedKeyRecord[str, int]) -> None:
            self.context.forward(record.with_value(record.value + 1).with_timestamp(9).with_headers(()))

    b = builder()
    b.stream("in").process_values(Plus).group_by_key().count(store="n").to_stream().to("out")
    driver = drive(b)
    assert not driver.topology.repartition_topics
    pipe(driver, ("a", 1, 0), ("a", 1, 1))
    assert out(driver) == [("a", 1, 9), ("a", 2, 9)]


@pytest.mark.parametrize("by", ["process", "punctuator"])
def test_another_key_is_refused_when_only_values_are_processed(drive: Drive, by: str) -> None:
    class Wrong(FixedKeyProcessor[str, int, int]):
        def process(self, record: FixedKeyRecord[str, int]) -> None:
            if by == "process":
                self.context.forward(FixedKeyRecord("other", 1, 0))
            else:
                self.context.schedule(SECOND, PunctuationType.STREAM_TIME, lambda _: self.context.forward(record))

    b = builder()
    b.stream("in").process_values(Wrong).to("out")
    message = "must keep the key 'a', not make it 'other'" if by == "process" else "a punctuator has no key"
    with pytest.raises(ProcessingError, match=message):
        pipe(drive(b), ("a", 1, 0))


# ---- life ------------------------------------------------------------------------------------------------


def test_each_start_has_a_processor_of_its_own_and_the_last_one_is_closed(drive: Drive) -> None:
    life: list[str] = []

    class Living(Processor[Any, Any, Any, Any]):
        def __init__(self) -> None:
            life.append("made")

        def init(self, context: Any) -> None:
            life.append(f"init {context.task_id} of {context.application_id}")

        def process(self, record: Record[Any, Any]) -> None:
            life.append("process")

        def close(self) -> None:
            life.append("close")
            raise ValueError("is only logged")

    b = builder()
    b.stream("in").process(Living)
    driver = drive(b)
    pipe(driver, ("a", 1, 0))
    driver.crash()
    driver.restart()
    driver.close()
    one = ["made", "init 0_0 of app"]
    assert life == ["made", "made", *one, "process", "close", *one, "close"]  # two to see that they differ


def test_a_processor_that_cannot_begin_stops_the_task(drive: Drive) -> None:
    b = builder()
    b.stream("in").process(processor(lambda *_: None, init=lambda *_: 1 // 0), name="p")
    with pytest.raises(ProcessingError, match=r"could not begin, ZeroDivisionError.*node=p"):
        drive(b)


def test_settings_can_be_asked_for(drive: Drive) -> None:
    seen: list[Any] = []
    b = builder()
    b.stream("in").process(processor(lambda self, _: seen.append(self.context.app_configs["commit_interval_ms"])))
    pipe(drive(b, config={"commit_interval_ms": 123}), ("a", 1, 0))
    assert seen == [123]


# ---- punctuators -----------------------------------------------------------------------------------------


def ticking(kind: PunctuationType, every: timedelta = SECOND) -> type[Processor[Any, Any, Any, Any]]:
    def init(self: Any, context: Any) -> None:
        self.context = context
        context.schedule(every, kind, self.tick)

    def tick(self: Any, now: int) -> None:
        at = self.context
        assert at.record_metadata is None
        at.forward(Record("tick", at.current_stream_time_ms, now))

    return processor(lambda self, record: self.context.forward(record), init=init, tick=tick)


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_stream_time_punctuators_run_between_the_same_records_whatever_the_batches(
    drive: Drive, batch_rows: int
) -> None:
    b = builder()
    b.stream("in").process(ticking(PunctuationType.STREAM_TIME)).to("out")
    driver = drive(b, batch_rows=batch_rows)
    pipe(driver, ("a", 1, 400), ("b", 2, 900), ("c", 3, 2500), ("d", 4, 100), ("e", 5, 3000))
    assert out(driver) == [
        ("a", 1, 400),
        ("tick", 400, 400),
        ("b", 2, 900),
        ("c", 3, 2500),
        ("tick", 2500, 2500),
        ("d", 4, 100),
        ("e", 5, 3000),
        ("tick", 3000, 3000),
    ]


def test_wall_clock_punctuators_run_once_when_the_clock_is_moved_far(drive: Drive) -> None:
    b = builder()
    b.stream("in").process(ticking(PunctuationType.WALL_CLOCK_TIME)).to("out")
    driver = drive(b)
    for by in (999, 1, 3500, 499, 1):
        driver.advance_wall_clock_time(timedelta(milliseconds=by))
    assert out(driver) == [("tick", -1, 1000), ("tick", -1, 4500), ("tick", -1, 5000)]


def test_what_a_punctuator_raises_is_reported_or_skipped(drive: Drive) -> None:
    def init(self: Any, context: Any) -> None:
        context.schedule(SECOND, PunctuationType.WALL_CLOCK_TIME, lambda _: 1 // 0)

    b = builder()
    b.stream("in").process(processor(lambda *_: None, init=init), name="p")
    with pytest.raises(ProcessingError, match=r"ZeroDivisionError.*node=p offset=unknown .* timestamp=1000"):
        drive(b).advance_wall_clock_time(SECOND)
    driver = drive(b, on_error="skip")
    driver.advance_wall_clock_time(SECOND)
    driver.advance_wall_clock_time(SECOND)
    assert driver.metrics.total("dropped_records_total", node="p") == 2


def test_what_a_punctuator_writes_is_logged_at_its_time(drive: Drive) -> None:
    def init(self: Any, context: Any) -> None:
        store = context.get_state_store("counts")
        context.schedule(SECOND, PunctuationType.WALL_CLOCK_TIME, lambda now: store.put("at", now))

    given = processor(lambda *_: None, init=init)
    given.stores = staticmethod(lambda: [COUNTS])  # type: ignore[attr-defined]
    b = builder()
    b.stream("in").process(given)
    driver = drive(b)
    driver.advance_wall_clock_time(SECOND)
    driver.crash()
    driver.restart()
    assert driver.get_key_value_store("counts").get("at") == 1000
    assert [row.timestamp_ms for row in driver.logs.topics["app-counts-changelog"]] == [1000]


# ---- stores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_a_store_that_the_supplier_brings_survives_a_crash(drive: Drive, batch_rows: int) -> None:
    b = builder()
    b.stream("in").process(Count).to("out")
    driver = drive(b, batch_rows=batch_rows)
    pipe(driver, ("a", 0, 1), ("b", 0, 2), ("a", 0, 3))
    driver.crash()
    driver.restart()
    pipe(driver, ("a", 0, 4))
    assert out(driver) == [("a", 1, 1), ("b", 1, 2), ("a", 2, 3), ("a", 3, 4)]
    assert list(driver.get_key_value_store("counts").all()) == [("a", 3), ("b", 1)]
    logged = driver.logs.topics["app-counts-changelog"]
    assert [(row.key, row.timestamp_ms) for row in logged] == [(b"a", 1), (b"b", 2), (b"a", 3), (b"a", 4)]


def test_a_cached_store_logs_the_last_update_of_each_key_at_the_commit(drive: Drive) -> None:
    class Cached(Count):
        @staticmethod
        def stores() -> list[Any]:
            return [Stores.key_value_store("counts", S, I, caching=True)]

    b = builder()
    b.stream("in").process(Cached)
    driver = drive(b, commit_rows=100)
    pipe(driver, ("a", 0, 1), ("b", 0, 2), ("a", 0, 3))
    logged = driver.logs.topics["app-counts-changelog"]
    assert [(row.key, row.value, row.timestamp_ms) for row in logged] == [
        (b"b", I.serialize(1), 2),
        (b"a", I.serialize(2), 3),
    ]


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_two_processors_share_a_store_row_by_row(drive: Drive, batch_rows: int) -> None:
    shared = Stores.key_value_store("shared", S, I)
    seen: list[tuple[int, int | None]] = []

    def init(self: Any, context: Any) -> None:
        self.store = context.get_state_store("shared")

    b = builder()
    b.add_state_store(shared)
    several = b.stream("in").flat_map_values(lambda v: [v, v + 1])
    several.process(processor(lambda self, r: self.store.put("last", r.value), init=init), "shared")
    several.process(processor(lambda self, r: seen.append((r.value, self.store.get("last"))), init=init), "shared")
    pipe(drive(b, batch_rows=batch_rows), ("a", 1, 0), ("a", 5, 0))
    assert seen == [(1, 1), (2, 2), (5, 5), (6, 6)]


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_processor_sees_what_a_node_below_it_has_written(drive: Drive, batch_rows: int) -> None:
    seen: list[Any] = []

    class Above(Processor[Any, Any, Any, Any]):
        def init(self, context: Any) -> None:
            super().init(context)
            self.store = context.get_state_store("counts")

        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record)
            self.context.forward(record)
            seen.append(self.store.get(record.key))

    b = builder()
    b.stream("in").process(Above, "counts").process(Count)
    pipe(drive(b, batch_rows=batch_rows), ("a", 1, 0), ("a", 2, 0))
    assert seen == [2, 4]


@pytest.mark.parametrize("cache", [0, 1_000_000])
def test_a_tables_store_is_read_and_written_through_its_cache(drive: Drive, cache: int) -> None:
    seen: list[Any] = []

    def init(self: Any, context: Any) -> None:
        self.table = context.get_state_store("table")

    def process(self: Any, record: Record[str, int]) -> None:
        seen.append([(key, tuple(row)) for key, row in self.table.range("a", "c")])
        seen.append(self.table.get(record.key))
        self.table.delete("b")

    b = builder()
    b.table("table", store="table").to_stream().to("out")
    b.stream("in").process(processor(process, init=init), "table")
    driver = drive(b, commit_rows=100, config={"statestore_cache_max_bytes": cache})
    table = driver.create_input_topic("table", S, I)
    table.pipe_key_values([("a", 1), ("b", 2), ("d", 9)], start_ms=5)
    pipe(driver, ("b", 0, 7))
    assert seen == [[("a", (1, 5)), ("b", (2, 5))], (2, 5)]
    assert [key for key, _ in driver.get_key_value_store("table").all()] == ["a", "d"]
    # Only a cached table hears of it.
    assert (("b", None, 7) in out(driver)) is (cache > 0)


def test_a_store_that_is_not_connected_is_refused(drive: Drive) -> None:
    def init(self: Any, context: Any) -> None:
        context.get_state_store("counts")

    b = builder()
    b.stream("in").process(processor(lambda *_: None, init=init), name="p")
    b.stream("in").process(Count)
    with pytest.raises(StateStoreError, match='"p" asks for the store "counts", which is not connected with it'):
        drive(b)


def test_a_commit_happens_when_a_processor_asks_for_it(drive: Drive) -> None:
    b = builder()
    counted = b.stream("in").process(Count)
    counted.process(processor(lambda self, r: self.context.commit() if r.value == 2 else None))
    driver = drive(b, commit_rows=100)
    driver.create_input_topic("in", S, I)
    task = driver.task
    pipe(driver, ("a", 0, 1))
    assert not task.commit_requested
    pipe(driver, ("a", 0, 2))
    assert not task.dirty


# ---- global stores ---------------------------------------------------------------------------------------


class Fill(Processor[str, int, Any, Any]):
    def init(self, context: Any) -> None:
        self.store = context.get_state_store("rates")

    def process(self, record: Record[str, int]) -> None:
        self.store.put(record.key, record.value * 10)


def with_global_store() -> StreamsBuilder:
    def process(self: Any, record: Record[str, int]) -> None:
        rates = self.context.get_state_store("rates")
        assert not hasattr(rates, "put")
        self.context.forward(record.with_value(record.value * (rates.get(record.key) or 0)))

    b = builder()
    b.add_global_store(Stores.key_value_store("rates", S, I), "rates-topic", Fill)
    b.stream("in").process(processor(process)).to("out")
    return b


def test_a_global_store_is_what_its_processor_makes_of_the_topic_again_after_a_crash(drive: Drive) -> None:
    driver = drive(with_global_store())
    assert "for global store" in driver.topology.describe()
    driver.create_input_topic("rates-topic", S, I).pipe_input("a", 7, 0)
    pipe(driver, ("a", 2, 0))
    driver.crash()
    driver.restart()
    pipe(driver, ("a", 3, 0), ("b", 3, 0))
    assert [value for _, value, _ in out(driver)] == [140, 210, 0]


def test_the_processor_of_a_global_store_can_fail_or_be_skipped(drive: Drive) -> None:
    failing, skipping = drive(with_global_store()), drive(with_global_store(), on_error="skip")
    with pytest.raises(ProcessingError, match=r"TypeError.*topic=rates-topic partition=0 offset=0"):
        failing.create_input_topic("rates-topic", S, I).pipe_input("a", None, 0)
    skipping.create_input_topic("rates-topic", S, I).pipe_input("a", None, 0)
    assert skipping.metrics.total("dropped_records_total", reason="processing-error") == 1


def test_the_processor_of_a_global_store_cannot_schedule(drive: Drive) -> None:
    def init(self: Any, context: Any) -> None:
        context.schedule(SECOND, PunctuationType.STREAM_TIME, print)

    b = builder()
    b.add_global_store(COUNTS, "t", processor(lambda *_: None, init=init))
    b.stream("in").to("out")
    with pytest.raises(ProcessingError, match="cannot schedule punctuators"):
        drive(b)


# ---- tables ----------------------------------------------------------------------------------------------


class Rated(ValueTransformerWithKey[str, int, int]):
    def init(self, context: Any) -> None:
        super().init(context)
        self.rates = context.get_state_store("rates")

    def transform(self, key: str, value: int | None) -> int | None:
        return None if value is None else value * (self.rates.get(key) or 1)


@pytest.mark.parametrize("options", [{}, {"store": "rated"}])
def test_a_tables_values_are_transformed_with_the_help_of_a_store(drive: Drive, options: Any) -> None:
    b = builder()
    b.add_global_store(Stores.key_value_store("rates", S, I), "rates-topic", Fill)
    rated = b.table("table", store="table").transform_values(Rated, **options)
    rated.group_by(lambda _, value: ("all", value)).reduce(lambda a, v: a + v, lambda a, v: a - v, store="sum")
    rated.to_stream().to("out")
    b.stream("in").join(rated, lambda left, right: left + right).to("joined")
    driver = drive(b)
    driver.create_input_topic("rates-topic", S, I).pipe_input("a", 7, 0)
    table = driver.create_input_topic("table", S, I)
    table.pipe_key_values([("a", 1), ("b", 5), ("a", 2), ("b", None)], start_ms=0, advance=timedelta(milliseconds=1))
    pipe(driver, ("a", 1000, 9), ("b", 1000, 9))
    assert out(driver) == [("a", 70, 0), ("b", 5, 1), ("a", 140, 2), ("b", None, 3)]
    assert out(driver, "joined") == [("a", 1140, 9)]
    assert driver.get_key_value_store("sum").get("all") == 140


def test_a_transformer_cannot_forward(drive: Drive) -> None:
    class Wrong(ValueTransformerWithKey[Any, Any, Any]):
        def transform(self, key: Any, value: Any) -> Any:
            self.context.forward(FixedKeyRecord(key, value, 0))

    b = builder()
    b.table("table").transform_values(Wrong).to_stream().to("out")
    with pytest.raises(ProcessingError, match="a value transformer cannot forward"):
        drive(b).create_input_topic("table", S, I).pipe_input("a", 1, 0)


# ---- mistakes --------------------------------------------------------------------------------------------


def broken() -> StreamsBuilder:
    b = builder()
    b.add_global_store(Stores.key_value_store("rates", S, I), "rates-topic", Fill)
    stream = b.stream("in")
    stream.process("no function", name="p")  # type: ignore[arg-type]
    stream.process(Count, "nowhere", name="q")
    stream.process(Count, "rates", name="r")
    wrong = processor(lambda *_: None)
    wrong.stores = staticmethod(lambda: ["name"])  # type: ignore[attr-defined]
    stream.process(wrong, name="s")
    return b


def test_mistakes_are_told_together_when_the_topology_is_built() -> None:
    with pytest.raises(TopologyError) as raised:
        broken().build()
    assert raised.value.problems == (
        "\"s\" brings 'name', which is no store: make it with streamlib.Stores",
        '"q" uses the store "nowhere", which does not exist: add it with add_state_store',
        '"r" names the global store "rates", which every processor may read: leave it out',
        "\"p\" needs a function as its supplier, got 'no function'",
    )


@pytest.mark.parametrize("brings", ["process", "process_values", "transform_values", "global store", "TopologyBuilder"])
def test_a_supplier_that_gives_one_object_twice_is_refused(brings: str) -> None:
    class Pass(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record)

    one = Pass()
    builder: Any = StreamsBuilder("app")
    if brings == "TopologyBuilder":
        builder = TopologyBuilder("app").add_source("in", "in").add_processor("p", lambda: one, "in")
    elif brings == "global store":
        builder.add_global_store(Stores.key_value_store("g", S, S), "g", lambda: one, name="p")
    elif brings == "transform_values":
        builder.table("in", S, S, store="t").transform_values(lambda: one, name="p")
    else:
        getattr(builder.stream("in", S, S), brings)(lambda: one, name="p")
    with pytest.raises(TopologyError) as caught:
        builder.build()
    assert list(caught.value.problems) == [
        'the supplier of "p" gives the same object each time: it must make a new one for each task, e.g. be the class '
        "itself"
    ]


def test_a_join_has_a_transformer_of_its_own_that_begins_and_ends_with_the_task(drive: Drive) -> None:
    life: list[str] = []

    class Living(ValueTransformerWithKey[str, str, str]):
        def __init__(self) -> None:
            self.calls = 0

        def init(self, context: Any) -> None:
            super().init(context)
            life.append("init")

        def transform(self, key: str, value: str | None) -> str:
            self.calls += 1
            return f"{value}{self.calls}{'' if self.context.record_metadata is None else 'r'}"

        def close(self) -> None:
            life.append(f"close {self.calls}")

    b = StreamsBuilder("app", default_key_serde=S, default_value_serde=S)
    table = b.table("table", store="t").transform_values(Living, name="made")
    b.stream("in").left_join(table, lambda left, right: f"{left} {right}").to("out")
    driver = drive(b)
    for topic, value in [("in", "a"), ("table", "b"), ("in", "c"), ("in", "d")]:
        driver.create_input_topic(topic, S, S).pipe_input("k", value)
    assert driver.create_output_topic("out", S, S).read_values_to_list() == ["a None1", "c b2", "d b3"]
    driver.crash()
    driver.restart()
    driver.close()
    assert life == ["init", "init", "close 1", "close 3", "init", "init", "close 0", "close 0"]
