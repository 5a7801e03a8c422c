"""Timers by key: when they fire, in which order, once each, and after a crash."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    KeyTimers,
    ProcessingError,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Stores,
    StreamsBuilder,
    serdes,
)
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.interference import needs_record_order

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
S = serdes.STRING
STREAM, WALL = PunctuationType.STREAM_TIME, PunctuationType.WALL_CLOCK_TIME


class Remind(Processor[str, str, str, str]):
    """Sets the timer of a key to the time in the value, cancels it for ``-``, and passes on what fires."""

    kind = STREAM
    timers: KeyTimers[str]

    @staticmethod
    def stores() -> Iterator[Any]:
        yield Stores.key_timers("timers", S)

    def init(self, context: ProcessorContext[str, str]) -> None:
        super().init(context)
        self.timers = context.key_timers("timers", self.kind, self.on_timer)

    def process(self, record: Record[str, str]) -> None:
        if record.value == "-":
            self.context.forward(record.with_value(str(self.timers.cancel(record.key))))
        elif record.value == "?":
            self.context.forward(record.with_value(str(self.timers.get(record.key))))
        elif record.value:
            self.timers.set(record.key, int(record.value))

    def on_timer(self, key: str, at_ms: int) -> None:
        if key == "bad":
            raise ValueError("cannot")
        if key == "again" and at_ms < 150:
            self.timers.set(key, at_ms + 20)
        self.context.forward(Record(key, f"fired {at_ms}", self.context.current_stream_time_ms))


class RemindByTheClock(Remind):
    """The same on the wall clock."""

    kind = WALL


def driver(supplier: Any = Remind, batch_rows: int = 1, **config: Any) -> TopologyTestDriver:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).process(supplier, name="remind").to("out")
    return TopologyTestDriver(builder.build(), config, initial_wall_clock_ms=1_000, batch_rows=batch_rows)


def pipe(run: TopologyTestDriver, *rows: tuple[str, str, int]) -> list[tuple[str, str, int]]:
    first = len(run.logs.topics["out"])
    run.pipe_rows("in", [Row(key.encode(), value.encode(), at, ()) for key, value, at in rows])
    return out(run, first)


def out(run: TopologyTestDriver, first: int = 0) -> list[tuple[str, str, int]]:
    rows = run.logs.topics["out"][first:]
    return [((row.key or b"").decode(), (row.value or b"").decode(), row.timestamp_ms) for row in rows]


def pending(run: TopologyTestDriver) -> dict[str, int]:
    return dict(run.get_key_value_store("timers").all())


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_timer_fires_once_after_the_record_that_makes_it_due(batch_rows: int) -> None:
    with driver(batch_rows=batch_rows) as run:
        rows = [("a", "110", 100), ("b", "105", 100), ("x", "?", 104), ("x", "?", 111), ("a", "?", 112), ("x", "", 200)]
        assert pipe(run, *rows) == [
            ("x", "None", 104),
            ("x", "None", 111),
            ("b", "fired 105", 111),
            ("a", "fired 110", 111),
            ("a", "None", 112),
        ]
        assert pending(run) == {}


def test_timers_of_one_time_fire_in_the_order_of_their_keys() -> None:
    with driver() as run:
        pipe(run, ("c", "110", 100), ("a", "110", 100), ("b", "109", 100))
        assert [key for key, _, _ in pipe(run, ("x", "", 110))] == ["b", "a", "c"]


def test_a_timer_that_is_set_again_fires_at_the_new_time_only() -> None:
    with driver() as run:
        pipe(run, ("a", "110", 100), ("a", "130", 100), ("b", "140", 100), ("b", "105", 100))
        assert pipe(run, ("x", "", 120)) == [("b", "fired 105", 120)]
        assert pipe(run, ("a", "?", 121), ("x", "", 150)) == [("a", "130", 121), ("a", "fired 130", 150)]


def test_a_timer_that_is_cancelled_does_not_fire() -> None:
    with driver() as run:
        assert pipe(run, ("a", "110", 100), ("a", "-", 101), ("a", "-", 102), ("x", "", 200)) == [
            ("a", "True", 101),
            ("a", "False", 102),
        ]


def test_a_timer_may_set_itself_again() -> None:
    with driver() as run:
        pipe(run, ("again", "120", 100))
        assert [value for _, value, _ in pipe(run, ("x", "", 139))] == ["fired 120"]
        assert [value for _, value, _ in pipe(run, ("x", "", 300))] == ["fired 140", "fired 160"]


@pytest.mark.parametrize("kind", [Remind, RemindByTheClock])
def test_timers_that_were_set_before_a_crash_fire_after_it_once(kind: Any) -> None:
    with driver(kind) as run:
        pipe(
            run,
            ("a", "1110", 1_000),
            ("b", "1105", 1_000),
            ("c", "1300", 1_000),
            ("d", "1104", 1_000),
            ("d", "-", 1_000),
        )
        run.crash()
        run.restart()
        first = len(out(run))
        if kind is Remind:
            pipe(run, ("x", "", 1_200))
        else:
            run.advance_wall_clock_time(timedelta(milliseconds=200))
        assert [value for _, value, _ in out(run, first)] == ["fired 1105", "fired 1110"]
        run.crash()
        run.restart()
        assert pending(run) == {"c": 1_300}
        pipe(run, ("x", "", 1_250))
        run.advance_wall_clock_time(timedelta(milliseconds=50))
        assert [value for _, value, _ in out(run, first)] == ["fired 1105", "fired 1110"]


def test_the_wall_clock_fires_without_records() -> None:
    with driver(RemindByTheClock) as run:
        pipe(run, ("a", "1500", 7))
        run.advance_wall_clock_time(timedelta(milliseconds=499))
        assert out(run) == []
        run.advance_wall_clock_time(timedelta(milliseconds=1))
        assert out(run) == [("a", "fired 1500", 7)]
        run.advance_wall_clock_time(timedelta(hours=1))
        assert len(out(run)) == 1


def test_one_timer_that_raises_does_not_hold_up_the_others() -> None:
    with driver(processing_exception_handler="skip") as run:
        pipe(run, ("a", "110", 100), ("bad", "105", 100))
        assert pipe(run, ("x", "", 120)) == [("a", "fired 110", 120)]
        assert run.metrics.total("dropped_records_total", reason="processing-error") == 1
        assert pending(run) == {}


def test_a_timer_that_raises_stops_the_worker_when_errors_are_not_skipped() -> None:
    with driver() as run, pytest.raises(ProcessingError, match="remind"):
        pipe(run, ("bad", "105", 100), ("x", "", 120))


def test_many_timers_set_again_and_again_take_no_more_room_than_those_that_wait() -> None:
    with driver(batch_rows=1_000) as run:
        pipe(run, *[("a", str(100_000 + number), 100) for number in range(3_000)])
        assert pipe(run, ("x", "", 200_000)) == [("a", "fired 102999", 200_000)]


def test_records_are_processed_one_at_a_time_when_timers_may_fire_between_them() -> None:
    with driver() as run:
        assert needs_record_order(run.topology, "KSTREAM-SOURCE-0000000000")


class OfAnotherStore(Remind):
    """Asks for timers in a store for values."""

    @staticmethod
    def stores() -> Iterator[Any]:
        yield Stores.key_value_store("timers", S, serdes.INT64)


class OfNoStore(Remind):
    """Asks for timers in a store that it does not have."""

    @staticmethod
    def stores() -> Iterator[Any]:
        yield from ()


@pytest.mark.parametrize(
    ("supplier", "mend"), [(OfAnotherStore, "Stores.key_timers"), (OfNoStore, "supplier bring it")]
)
def test_timers_need_a_store_of_their_own(supplier: Any, mend: str) -> None:
    with pytest.raises(Exception, match=mend):
        driver(supplier)
