import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import ProcessingError
from streamlib.metrics import Metrics
from streamlib.record import Change, RecordBatch
from streamlib.runtime.lowering import BUILDERS, OWNERS, Pipeline, lower
from streamlib.serdes import INT64, JSON, STRING
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.memory import MemoryEngine
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import open_store
from streamlib.topology.interference import FUSED
from streamlib.topology.nodes import (
    Filter,
    FlatMapValues,
    ForEach,
    MapValues,
    Node,
    PassThrough,
    Peek,
    RepartitionFilter,
    Sink,
    Source,
    StreamAggregate,
    StreamGlobalTableJoin,
    StreamTableJoin,
    TableFilter,
    TableGroupBy,
    TableMapValues,
    TableSource,
    TableToStream,
    WindowAggregate,
)
from streamlib.topology.subtopologies import Subtopology
from streamlib.topology.topology import Topology
from streamlib.topology.windows import TimeWindows

MB = 1 << 20


@dataclass
class Context:
    """The task's side: keeps what is sent and what failed."""

    skip_errors: bool = False
    close_windows_after_idle_ms: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    sent: list[tuple[str, Any, Any, int]] = field(default_factory=list)
    failures: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def errors(self) -> "Context":
        return self

    @property
    def collector(self) -> "Context":
        return self

    def send(self, sink: Sink, batch: RecordBatch, topic: str | None = None, errors: Any = None) -> None:
        rows = zip(batch.keys, batch.values, batch.timestamps, strict=True)
        self.sent.extend((sink.name, *row) for row in rows)

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        self.failures.append((node, key))
        if not self.skip_errors:
            raise ProcessingError(node) from error


def store(name: str, **changes: Any) -> StoreSpec:
    settings: dict[str, Any] = {"kind": "key_value", "key_serde": STRING, "value_serde": JSON, "persistent": False}
    return StoreSpec(name=name, **{**settings, **changes})


def source(name: str = "source", *topics: str) -> Source:
    return Source(name=name, topics=topics or (name,), key_serde=STRING, value_serde=JSON)


def sink(name: str, *parents: str) -> Sink:
    return Sink(name=name, parents=parents, topic=name, key_serde=STRING, value_serde=JSON)


def plan(
    *nodes: Node, stores: tuple[StoreSpec, ...] = (), name: str | None = "app", is_global: bool = False
) -> Topology:
    part = Subtopology(0, tuple(node.name for node in nodes), (), (), tuple(spec.name for spec in stores), is_global)
    return Topology(name, {node.name: node for node in nodes}, {spec.name: spec for spec in stores}, (part,))


def lowered(topology: Topology, context: Context, cache_bytes: int = 0) -> tuple[Pipeline, dict[str, Any]]:
    engine = MemoryEngine()
    stores = {name: open_store(spec, engine) for name, spec in topology.stores.items()}
    caches = CacheMemory(cache_bytes) if cache_bytes else None
    return lower(topology, topology.subtopologies[0], stores, context, caches=caches), stores


def batch(*rows: tuple[Any, Any, int]) -> RecordBatch:
    keys, values, timestamps = map(list, zip(*rows, strict=True))
    return RecordBatch(keys, values, timestamps, list(range(len(rows))))


COUNT_CHAIN = (
    source(),
    FlatMapValues(name="words", parents=("source",), mapper=str.split),
    StreamAggregate(name="count", parents=("words",), kind="count", store="counts", stores=("counts",)),
    TableToStream(name="to-stream", parents=("count",)),
    MapValues(name="text", parents=("to-stream",), mapper=str),
    sink("out", "text"),
)
COUNTS = store("counts", value_serde=INT64)


def test_records_go_from_the_source_through_stores_to_the_sink():
    context = Context()
    pipeline, stores = lowered(plan(*COUNT_CHAIN, stores=(COUNTS,)), context)
    pipeline.sources["source"].process(batch(("a", "x y", 1), ("b", "x", 2)))
    assert context.sent == [("out", "a", "1", 1), ("out", "a", "2", 1), ("out", "b", "1", 2)]
    assert stores["counts"].get(b"a") == (2, 1)
    assert pipeline.flush() is False


def test_cached_updates_come_out_at_the_flush_and_are_forgotten_when_discarded():
    context = Context()
    pipeline, stores = lowered(plan(*COUNT_CHAIN, stores=(COUNTS,)), context, MB)
    pipeline.sources["source"].process(batch(("a", "x y", 1)))
    assert context.sent == []
    assert pipeline.flush() is False
    assert context.sent == [("out", "a", "2", 1)]
    pipeline.sources["source"].process(batch(("a", "x y", 1)))
    pipeline.discard()
    pipeline.flush()
    assert len(context.sent) == 1
    assert stores["counts"].get(b"a") == (2, 1)


def test_a_store_that_wants_no_cache_is_written_at_once():
    context = Context()
    pipeline, _ = lowered(plan(*COUNT_CHAIN, stores=(store("counts", caching=False),)), context, MB)
    pipeline.sources["source"].process(batch(("a", "x y", 1)))
    assert len(context.sent) == 2


TWO_CACHES = (
    source(),
    TableSource(name="table", parents=("source",), store="t", stores=("t",), send_old=True),
    TableMapValues(name="doubled", parents=("table",), mapper=lambda v: v * 2, store="d", stores=("d",), send_old=True),
    TableToStream(name="to-stream", parents=("doubled",)),
    sink("out", "to-stream"),
)


def test_an_upstream_cache_is_flushed_before_the_one_it_feeds_when_flushing_in_parts():
    context = Context()
    pipeline, stores = lowered(plan(*TWO_CACHES, stores=(store("d"), store("t"))), context, MB)
    pipeline.sources["source"].process(batch(("a", 1, 1), ("b", 2, 2), ("c", 3, 3), ("a", 4, 4)))
    steps = 0
    while pipeline.flush(2):
        steps += 1
        assert steps < 10
    assert steps >= 2
    assert context.sent == [("out", "b", 4, 2), ("out", "c", 6, 3), ("out", "a", 8, 4)]
    assert [stores[name].get(b"a") for name in ("t", "d")] == [(4, 4), (8, 4)]


def test_nodes_are_wired_by_parents_when_they_were_added_in_another_order():
    context = Context()
    pipeline, _ = lowered(plan(*reversed(TWO_CACHES), stores=(store("d"), store("t"))), context, MB)
    pipeline.sources["source"].process(batch(("a", 1, 1)))
    pipeline.flush()
    assert context.sent == [("out", "a", 2, 1)]


def test_a_join_sees_rows_that_are_only_in_the_cache_of_the_table():
    context = Context()
    nodes = (
        source("left"),
        source("right"),
        TableSource(name="table", parents=("right",), store="t", stores=("t",)),
        TableFilter(name="big", parents=("table",), predicate=lambda _, v: v > 1),
        StreamTableJoin(name="join", parents=("left",), table="big", joiner=lambda *both: both, stores=("t",)),
        sink("out", "join"),
    )
    pipeline, _ = lowered(plan(*nodes, stores=(store("t"),)), context, MB)
    pipeline.sources["right"].process(batch(("a", 1, 1), ("b", 2, 2)))
    pipeline.sources["left"].process(batch(("a", "x", 3), ("b", "y", 4)))
    assert context.sent == [("out", "b", ("y", 2), 4)]
    assert not pipeline.sources["left"].record_order


def test_a_global_table_is_filled_without_cache_and_joined_from_another_subtopology():
    context = Context()
    spec = store("g")
    filling = plan(
        source(),
        TableSource(name="table", parents=("source",), store="g", stores=("g",)),
        stores=(spec,),
        is_global=True,
    )
    pipeline, stores = lowered(filling, context, MB)
    pipeline.sources["source"].process(batch(("a", 1, 1), (None, 2, 2)))
    assert stores["g"].get(b"a") == (1, 1)
    joining = plan(
        source(),
        StreamGlobalTableJoin(
            name="join", parents=("source",), store="g", key_selector=lambda _, v: v, joiner=lambda *both: both
        ),
        sink("out", "join"),
    )
    joining = Topology("app", joining.nodes, {"g": spec}, joining.subtopologies)
    pipeline = lower(joining, joining.subtopologies[0], stores, context)
    pipeline.sources["source"].process(batch(("k", "a", 3)))
    assert context.sent == [("out", "k", ("a", 1), 3)]


def test_a_grouped_table_sends_changes_to_its_repartition_topic():
    context = Context()
    nodes = (
        source(),
        TableSource(name="table", parents=("source",), store="t", stores=("t",), send_old=True),
        TableGroupBy(name="group", parents=("table",), mapper=lambda k, v: (v, k)),
        sink("out", "group"),
    )
    pipeline, _ = lowered(plan(*nodes, stores=(store("t"),)), context)
    pipeline.sources["source"].process(batch(("a", "x", 1), ("a", "y", 2)))
    assert [row[1:3] for row in context.sent] == [
        ("x", Change("a", None)),
        ("x", Change(None, "a")),
        ("y", Change("a", None)),
    ]


def test_tracebacks_name_topology_subtopology_and_node_when_a_function_raises():
    nodes = (source(), MapValues(name="upper", parents=("source",), mapper=str.upper), sink("out", "upper"))
    for name, shown in (("words", "topology words subtopology 0 source"), (None, "<streamlib subtopology 0 source")):
        pipeline, _ = lowered(plan(*nodes, name=name), Context())
        with pytest.raises(ProcessingError, match="upper") as raised:
            pipeline.sources["source"].process(batch(("a", 1, 1)))
        text = "".join(traceback.format_exception(raised.value.__cause__))
        assert shown in text
        assert "# upper" in text


def counting(*between: Node, parent: str = "source") -> Topology:
    count = StreamAggregate(name="count", parents=(parent,), kind="count", store="s", stores=("s",))
    return plan(source(), *between, count, stores=(store("s"),))


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (counting(), False),
        (
            counting(
                RepartitionFilter(name="f", parents=("source",)), PassThrough(name="p", parents=("f",)), parent="p"
            ),
            False,
        ),
        (counting(Peek(name="p", parents=("source",), action=print), parent="p"), True),
        (counting(sink("out", "source")), True),
        (counting(ForEach(name="e", parents=("source",), action=print)), True),
        (
            plan(
                source(),
                WindowAggregate(name="w", parents=("source",), windows=TimeWindows(10, 10), kind="count", store="w"),
                stores=(store("w", kind="window"),),
            ),
            False,
        ),
        (
            plan(
                source(),
                StreamAggregate(name="r", parents=("source",), kind="reduce", store="s", aggregator=max),
                stores=(store("s"),),
            ),
            True,
        ),
    ],
)
def test_values_are_read_unless_everything_below_only_counts(topology, expected):
    pipeline, _ = lowered(topology, Context())
    assert pipeline.sources["source"].reads_values is expected


def test_undecoded_values_count_when_nobody_reads_them():
    pipeline, stores = lowered(counting(), Context())
    pipeline.sources["source"].process(batch(("a", b"{", 1), ("a", None, 2)))
    assert stores["s"].get(b"a") == (1, 1)


def test_every_kind_of_node_is_either_fused_or_has_a_builder():
    def kinds(parent: type[Node]) -> set[type[Node]]:
        return {kind for child in parent.__subclasses__() for kind in (child, *kinds(child))}

    assert kinds(Node) == {*FUSED, *BUILDERS, Source}
    assert set(OWNERS) <= set(BUILDERS)


def several_ways() -> Topology:
    return plan(
        source(),
        source("tables"),
        FlatMapValues(name="twice", parents=("source",), mapper=lambda v: [v, v + 1] if v else [1 // v]),
        Filter(name="odd", parents=("twice",), predicate=lambda _, v: v % 2),
        StreamAggregate(
            name="sum",
            parents=("odd",),
            kind="reduce",
            store="sums",
            stores=("sums",),
            aggregator=lambda a, v: a + v,
            send_old=True,
        ),
        TableFilter(name="small", parents=("sum",), predicate=lambda _, v: v < 12, send_old=True),
        TableGroupBy(name="group", parents=("small",), mapper=lambda k, v: (str(v % 2), v)),
        sink("grouped", "group"),
        TableSource(name="table", parents=("tables",), store="t", stores=("t",)),
        StreamTableJoin(
            name="join", parents=("twice",), table="table", joiner=lambda a, b: a - (b or 0), left=True, stores=("t",)
        ),
        MapValues(name="inverse", parents=("join",), mapper=lambda v: 10 // v),
        sink("joined", "inverse"),
        stores=(store("sums"), store("t")),
    )


rows_of_one_source: Callable[[], Any] = lambda: st.lists(  # noqa: E731
    st.tuples(st.sampled_from(["a", "b", None]), st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 20)),
    min_size=1,
    max_size=8,
)


@given(
    runs=st.lists(st.tuples(st.sampled_from(["source", "tables"]), rows_of_one_source()), min_size=1, max_size=5),
    cache_bytes=st.sampled_from([0, MB]),
)
def test_whole_runs_give_what_single_records_give(runs, cache_bytes):
    contexts = Context(skip_errors=True), Context(skip_errors=True)
    (whole, _), (single, _) = (lowered(several_ways(), context, cache_bytes) for context in contexts)
    assert not any(entry.record_order for entry in whole.sources.values())
    for name, rows in runs:
        whole.sources[name].process(batch(*rows))
        for row in rows:
            single.sources[name].process(batch(row))
    whole.flush()
    single.flush()
    for sink_name in ("grouped", "joined"):
        sent = [[row[1:] for row in context.sent if row[0] == sink_name] for context in contexts]
        assert sent[0] == sent[1]
    assert sorted(map(repr, contexts[0].failures)) == sorted(map(repr, contexts[1].failures))
    assert dict(contexts[0].metrics._counters) == dict(contexts[1].metrics._counters)
