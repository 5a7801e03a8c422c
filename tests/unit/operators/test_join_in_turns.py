"""Records of both sides in turns give what they give one after the other."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib import JoinWindows, StreamsBuilder, Topology, serdes
from streamlib.errors import ProcessingError, SerdeError
from streamlib.operators.join_in_turns import turns
from streamlib.record import RecordBatch
from streamlib.runtime.lowering import lower
from streamlib.state.memory import MemoryEngine
from streamlib.state.stores import open_store

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")

MINUTE = 60_000


def ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


def topology(
    kind: str, windows: JoinWindows, *, in_memory: bool = False, joiner: Callable[[Any, Any], Any] | None = None
) -> Topology:
    builder = StreamsBuilder()
    left, right = (builder.stream(topic, serdes.STRING, serdes.STRING) for topic in ("L", "R"))
    left = left.filter(lambda _, value: value != "drop")
    right = right.flat_map_values(lambda value: [value] if len(value) < 3 else ["1st", "2nd"])
    joiner = joiner or (lambda a, b: f"{a}+{b}")
    join = getattr(left, kind)(right, joiner, windows, store="s", name="j", in_memory=in_memory)
    join.map_values(lambda value: value.upper()).to("out")
    return builder.build()


class Run:
    """A join with its stores in memory, and a changelog for each."""

    def __init__(self, make_site: Any, plan: Topology, memory_bytes: int = 10**9, *, skip: bool = False) -> None:
        self.site = make_site(skip_errors=skip)
        self.engine = MemoryEngine()
        self.changelogs = {name: type(self.site.changelog)() for name in plan.stores}
        self.stores: dict[str, Any] = {
            name: open_store(spec, self.engine, self.changelogs[name], cache_bytes=memory_bytes)
            for name, spec in plan.stores.items()
        }
        self.pipeline = lower(plan, plan.subtopologies[0], self.stores, self.site)
        self.entries = {
            source.topics[0]: self.pipeline.sources[name].process
            for name, source in plan.nodes.items()
            if not source.parents
        }
        self.pipeline.init()

    def one_by_one(self, rows: list[Any]) -> None:
        for number, (topic, *row) in enumerate(rows):
            self.entries[topic](batch([row], [number]))

    def in_turns(self, rows: list[Any]) -> None:
        inputs = []
        for topic in ("R", "L"):
            numbers = [number for number, row in enumerate(rows) if row[0] == topic]
            if numbers:
                inputs.append((self.entries[topic], batch([rows[number][1:] for number in numbers], numbers)))
        assert self.pipeline.in_turns is not None
        self.pipeline.in_turns.process(inputs)

    def results(self) -> list[Any]:
        out = [
            row
            for _, b in self.site.sent
            for row in zip(b.keys, b.values, b.timestamps, b.headers or [()] * len(b), b.offsets or [], strict=True)
        ]
        self.site.sent.clear()
        return out

    def commit(self) -> None:
        for store in self.stores.values():
            writes = store.pending()
            for table in writes:
                self.engine.create(table)
            self.engine.write(writes, {})
            store.applied()

    def state(self) -> dict[str, Any]:
        return {
            name: (list(store.scan()), store.expired, self.changelogs[name].rows, self.changelogs[name].headers)
            for name, store in self.stores.items()
        }


def batch(rows: list[Any], numbers: list[int]) -> RecordBatch:
    keys, values, times, headers = map(list, zip(*rows, strict=True))
    return RecordBatch(keys, values, times, numbers, headers if any(headers) else None)


TIMES = st.one_of(st.integers(0, 30), st.integers(0, 6 * MINUTE), st.sampled_from([MINUTE - 1, MINUTE, 2 * MINUTE]))
HEADERS = st.sampled_from([(), (), (("h", b"1"),)])
VALUES = st.sampled_from(["x", "y", "two", "drop", "x", None])
KEYS = st.sampled_from(["a", "b", "a", "b", "a", None])
ROW = st.tuples(st.sampled_from("LR"), st.sampled_from("ab"), VALUES.filter(lambda value: value), TIMES, HEADERS)
BLOCK = st.tuples(st.lists(ROW, min_size=1, max_size=14), st.booleans())
ANY_ROW = st.tuples(st.sampled_from("LR"), KEYS, VALUES, TIMES, HEADERS)
ANY_BLOCK = st.tuples(st.lists(ANY_ROW, min_size=1, max_size=10), st.booleans())


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(st.one_of(BLOCK, BLOCK, ANY_BLOCK), max_size=6),
    kind=st.sampled_from(["join", "left_join", "outer_join"]),
    span=st.sampled_from([(12, 12), (0, 20), (-3, 12), (MINUTE, 0)]),
    grace=st.sampled_from([0, 10, MINUTE]),
    in_memory=st.booleans(),
    memory_bytes=st.sampled_from([0, 2_000, 10**9]),
)
def test_turns_change_no_result(
    new_site: Any,
    blocks: list[Any],
    kind: str,
    span: tuple[int, int],
    grace: int,
    in_memory: bool,
    memory_bytes: int,
) -> None:
    windows = JoinWindows.of(ms(max(span)), before=ms(span[0]), after=ms(span[1]), grace=ms(grace))
    plan = topology(kind, windows, in_memory=in_memory, joiner=lambda a, b: f"{a}+{b}")
    single, together = Run(new_site, plan, skip=True), Run(new_site, plan, memory_bytes, skip=True)
    for rows, commits in blocks:
        single.one_by_one(rows)
        together.in_turns(rows)
        assert together.results() == single.results()
        if commits:
            together.commit()
        assert together.state() == single.state()
    assert sorted(together.site.failures, key=str) == sorted(single.site.failures, key=str)  # for a None on the right
    assert together.site.metrics.total("dropped_records_total") == single.site.metrics.total("dropped_records_total")


@given(st.lists(st.booleans(), max_size=20))
def test_turns_are_those_of_the_numbers(right: list[bool]) -> None:
    columns: tuple[list[int], list[int]] = ([], [])
    for number, side in enumerate(right):
        columns[side].append(number)
    merged = [columns[side][row] for side, first, last in turns(*columns) for row in range(first, last)]
    assert merged == list(range(len(right)))


def test_an_error_tells_the_number_of_its_record_when_records_come_in_turns(new_site: Any) -> None:
    plan = topology("join", JoinWindows.of(ms(5)), joiner=lambda a, b: 1 // 0)
    run = Run(new_site, plan)
    with pytest.raises(ProcessingError):
        run.in_turns([("L", "k", "a", 1, ()), ("R", "k", "b", 2, ()), ("L", "k", "c", 3, ())])
    assert run.site.failures == [
        ("ZeroDivisionError('integer division or modulo by zero')", "j-other-join", "k", "b", 2, 1)
    ]


def test_the_join_goes_on_when_work_was_dropped_after_an_error_between_turns(new_site: Any) -> None:
    run = Run(new_site, topology("join", JoinWindows.of(ms(5))))
    with pytest.raises(SerdeError):
        run.in_turns([("L", "k", "a", 1, ()), ("R", "k", [0], 2, ())])
    for store in run.stores.values():
        store.discard()
    run.pipeline.init()
    run.in_turns([("L", "k", "a", 1, ()), ("R", "k", "b", 2, ())])
    assert [value for _, value, *_ in run.results()] == ["A+B"]
