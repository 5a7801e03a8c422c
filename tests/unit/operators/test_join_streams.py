"""What the conformance scenarios do not reach: errors in joiners, the wall clock, memory, restarts in the middle."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib import JoinWindows, StreamsBuilder, Topology, serdes
from streamlib.errors import ProcessingError
from streamlib.operators import join_streams
from streamlib.record import RecordBatch
from streamlib.runtime.lowering import Pipeline, lower
from streamlib.state.memory import MemoryEngine
from streamlib.state.stores import open_store

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")

Rows = list[tuple[str, Any, int]]


def ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


def topology(kind: str, windows: JoinWindows, joiner: Callable[[Any, Any], Any] | None = None) -> Topology:
    builder = StreamsBuilder()
    left, right = (builder.stream(topic, serdes.STRING, serdes.STRING) for topic in ("L", "R"))
    joiner = joiner or (lambda a, b: f"{a}+{b}")
    getattr(left, kind)(right, joiner, windows, store="s", name="j").to("out")
    return builder.build()


class Run:
    """A join with its stores in memory."""

    def __init__(self, site: Any, plan: Topology, memory_bytes: int = 10**9) -> None:
        self.site = site
        self.engine = MemoryEngine()
        self.stores: dict[str, Any] = {
            name: open_store(spec, self.engine, site.changelog, cache_bytes=memory_bytes)
            for name, spec in plan.stores.items()
        }
        self.pipeline: Pipeline = lower(plan, plan.subtopologies[0], self.stores, site)
        self.names = {source.topics[0]: name for name, source in plan.nodes.items() if not source.parents}
        self.pipeline.init()

    def take(self, topic: str, *rows: tuple[Any, Any, int]) -> list[tuple[Any, Any, int]]:
        keys, values, times = map(list, zip(*rows, strict=True))
        self.pipeline.sources[self.names[topic]].process(RecordBatch(keys, values, times, list(range(len(rows)))))
        out = [row for _, b in self.site.sent for row in zip(b.keys, b.values, b.timestamps, strict=True)]
        self.site.sent.clear()
        return out

    def commit(self) -> None:
        for store in self.stores.values():
            writes = store.pending()
            for table in writes:
                self.engine.create(table)
            self.engine.write(writes, {})
            store.applied()


def test_a_record_is_left_out_from_its_failing_match_on_when_errors_are_skipped(skipping) -> None:
    def refuse(left: str, right: str) -> str:
        if right == "b":
            raise ValueError(right)
        return left + right

    run = Run(skipping, topology("join", JoinWindows.of(ms(10)), refuse))
    run.take("R", ("k", "a", 1), ("k", "b", 2), ("k", "c", 3))
    assert run.take("L", ("k", "X", 4), ("j", "Y", 4)) == [("k", "Xa", 4)]
    assert run.site.failures == [("ValueError('b')", "j-this-join", "k", "X", 4, 0)]
    assert run.take("R", ("k", "d", 5)) == [("k", "Xd", 5)]


def test_only_the_waiting_record_is_left_out_when_its_joiner_fails(skipping) -> None:
    def refuse(left: str, right: str | None) -> str:
        if right is None and left == "A":
            raise ValueError(left)
        return f"{left}+{right}"

    run = Run(skipping, topology("left_join", JoinWindows.of(ms(5)), refuse))
    run.take("L", ("k", "A", 1), ("k", "B", 2))
    assert run.take("L", ("k", "C", 20)) == [("k", "B+None", 2)]
    assert run.site.failures == [("ValueError('A')", "j-this-join", "k", "A", 1, 0)]
    assert [value for _, value, _ in run.take("L", ("k", "D", 40))] == ["C+None"]


def test_the_worker_stops_when_a_joiner_fails(site) -> None:
    run = Run(site, topology("outer_join", JoinWindows.of(ms(5)), lambda a, b: 1 // 0))
    run.take("L", ("k", "A", 1))
    with pytest.raises(ProcessingError):
        run.take("R", ("k", "a", 1))


def test_waiting_records_come_out_only_so_often_when_the_wall_clock_stands_still(site) -> None:
    site.emit_interval_ms = 1_000
    site.clock.advance_ms(5_000)
    run = Run(site, topology("left_join", JoinWindows.of(ms(5))))
    run.take("L", ("k", "A", 1))
    assert run.take("L", ("k", "B", 20)) == []
    site.clock.advance_ms(999)
    assert run.take("L", ("k", "C", 40)) == []
    site.clock.advance_ms(1)
    assert run.take("L", ("k", "D", 60), ("k", "E", 80)) == [
        ("k", "A+None", 1),
        ("k", "B+None", 20),
        ("k", "C+None", 40),
    ]


def test_what_waits_comes_out_after_a_restart_when_its_time_was_over_before(site, new_site) -> None:
    plan = topology("left_join", JoinWindows.of(ms(5), grace=ms(10)))
    run = Run(site, plan)
    run.take("L", ("k", "A", 1), ("k", "B", 100))
    run.commit()
    again = Run(new_site(), plan)
    again.engine = run.engine
    again.stores = {name: open_store(spec, run.engine, None) for name, spec in plan.stores.items()}
    again.pipeline = lower(plan, plan.subtopologies[0], again.stores, again.site)
    again.pipeline.init()
    assert again.take("L", ("k", "late", 50)) == [("k", "late+None", 50)]
    assert again.take("R", ("x", "y", 116)) == [("k", "B+None", 100)]


@pytest.mark.parametrize(("looked_at", "given_up"), [(3, [40, 41, 42, 43]), (10_000, [])])
def test_the_next_look_is_sooner_when_a_look_ends_before_all_waiting_records(
    site, monkeypatch: pytest.MonkeyPatch, looked_at: int, given_up: list[int]
) -> None:
    monkeypatch.setattr(join_streams, "LOOKED_AT_ROWS", looked_at)
    run = Run(site, topology("left_join", JoinWindows.of(ms(50))))
    run.take("L", ("k", "A", 1), *(("k", str(time), time) for time in range(40, 51)))
    assert run.take("L", ("k", "Z", 60)) == [("k", "A+None", 1)]
    assert run.take("L", ("k", "Z", 94)) == [("k", f"{time}+None", time) for time in given_up]


def test_records_without_key_or_value_are_counted_by_reason(site) -> None:
    run = Run(site, topology("left_join", JoinWindows.of(ms(5))))
    assert run.take("L", (None, "A", 1), (None, None, 1), ("k", None, 1)) == [(None, "A+None", 1)]
    assert run.take("R", (None, "a", 1), ("k", None, 2)) == []
    assert (site.dropped(reason="null-key"), site.dropped(reason="null-value")) == (2, 2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["L", "R"]),
        st.lists(
            st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from(["x", "y", None]), st.integers(0, 60)),
            min_size=1,
            max_size=5,
        ),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=120, deadline=None)
@given(
    steps=STEPS,
    kind=st.sampled_from(["join", "left_join", "outer_join"]),
    before=st.integers(-3, 12),
    after=st.integers(3, 12),
    grace=st.integers(0, 10),
    memory_bytes=st.sampled_from([0, 1_000, 10**9]),
)
def test_batches_commits_and_memory_change_no_result(
    new_site, steps: list[Any], kind: str, before: int, after: int, grace: int, memory_bytes: int
) -> None:
    windows = JoinWindows.of(ms(12), before=ms(before), after=ms(after), grace=ms(grace))
    plan = topology(kind, windows)
    single, batched = Run(new_site(), plan), Run(new_site(), plan, memory_bytes)
    for topic, rows, commits in steps:
        one_by_one = [result for row in rows for result in single.take(topic, row)]
        assert batched.take(topic, *rows) == one_by_one
        if commits:
            batched.commit()
    assert batched.site.metrics.total("dropped_records_total") == single.site.metrics.total("dropped_records_total")
    for name in plan.stores:
        assert list(batched.stores[name].scan()) == list(single.stores[name].scan())


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, before=st.integers(-3, 12), after=st.integers(3, 12))
def test_the_inner_join_is_every_pair_in_the_window_when_grace_is_long(
    new_site, steps: list[Any], before: int, after: int
) -> None:
    windows = JoinWindows.of(ms(12), before=ms(before), after=ms(after), grace=timedelta(days=1))
    run, out, all_rows = Run(new_site(), topology("join", windows)), [], {"L": [], "R": []}
    for topic, rows, _ in steps:
        # Far from 0, since a range never ends before it (as in Kafka): a row at 0 would see one it should not.
        later = [(key, value, time + 100) for key, value, time in rows]
        out += run.take(topic, *later)
        all_rows[topic] += [row for row in later if None not in row]
    pairs = [
        (key, f"{left}+{right}", max(time, other))
        for key, left, time in all_rows["L"]
        for other_key, right, other in all_rows["R"]
        if key == other_key and time - before <= other <= time + after
    ]
    assert sorted(out) == sorted(pairs)
