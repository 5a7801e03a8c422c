"""Joins of a stream with a table. Next: `topology/nodes`, what is left of them in the plan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.options import StoreOptions, ValueOptions
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import StreamGlobalTableJoin, StreamTableJoin
from streamlib.topology.windows import to_ms


@dataclass(frozen=True)
class Join:
    """What all joins are told.

    Attributes:
        joiner: The user's function.
        left: Whether rows without a match come out too.
        with_key: Whether the joiner is called with the key first.
        options: Name of the node and serde of the results.
        grace: How long records wait before they meet a versioned table.
    """

    joiner: Callable[..., Any]
    left: bool
    with_key: bool
    options: ValueOptions
    grace: timedelta | None = None


def join_table(flow: Flow, table: Flow, join: Join) -> Flow:
    """The flow after a join with a table; the table gets a store if it has none.

    A left join wants records without a key, so repartitioning above it lets them pass (KIP-962).
    """
    graph, table_step = flow.graph, table.step
    assert isinstance(table_step, TableStep)
    name = graph.name(join.options.name, "KSTREAM-LEFTJOIN-" if join.left else "KSTREAM-JOIN-")
    if graph.is_foreign(table.graph, name):
        return flow
    sources = flow.sources | table.sources
    graph.copartitioned.append(sources)
    stores, buffer = table_step.view(), _buffer(flow, table_step, name, join)
    node = StreamTableJoin(
        name=name,
        table=table_step.output,
        stores=stores if buffer is None else (buffer.name, *stores),
        joiner=join.joiner,
        left=join.left,
        with_key=join.with_key,
        grace_ms=None if buffer is None else buffer.retention_ms,
        buffer=None if buffer is None else buffer.name,
        on_error=join.options.on_error,
    )
    step = Step([node], [] if buffer is None else [buffer], relaxes_null_keys=join.left)
    graph.add(step, flow.step)
    joined = replace(flow, sources=sources, rekeyed=False)
    return joined.after(step, value_serde=flow.new_value_serde(join.options.value_serde, name))


def _buffer(flow: Flow, table: TableStep, name: str, join: Join) -> StoreSpec | None:
    """The store in which records wait for a table; None when they do not.

    Source: KStreamImpl.doStreamTableJoin, StreamTableJoinNode.
    """
    if join.grace is None:
        return None
    graph, grace_ms = flow.graph, to_ms(join.grace)
    history_ms = None if table.unversioned else table.history_ms
    if grace_ms < 0:
        graph.problems.append(f'"{name}" cannot wait for {grace_ms} ms: give it a grace of 0 or more')
    if history_ms is None:
        graph.problems.append(
            f'"{name}" has a grace, so its table must be versioned: give the table store= and versioned=, or leave out '
            "the grace"
        )
    elif grace_ms > history_ms:
        graph.problems.append(
            f'"{name}" waits for {grace_ms} ms, but its table keeps versions for {history_ms} ms only: give the table '
            "a longer versioned=, or the join a shorter grace"
        )
    options = StoreOptions(store=f"{name}-Buffer", caching=False, in_memory=False)
    spec = graph.store(options, "", flow.key_serde, flow.value_serde)
    return replace(spec, kind="join_buffer", retention_ms=max(grace_ms, 0))


def join_global_table(
    flow: Flow, table_graph: Graph, store: str, join: Join, key_selector: Callable[[Any, Any], Any] | None
) -> Flow:
    """The flow after a join with a global table: no repartitioning, no equal partition counts."""
    graph = flow.graph
    name = graph.name(join.options.name, "KSTREAM-LEFTJOIN-")
    if join.grace is not None:
        graph.problems.append(f'"{name}" joins a global table, which has no versions to wait for: leave out the grace')
    if graph.is_foreign(table_graph, name):
        return flow
    node = StreamGlobalTableJoin(
        name=name,
        store=store,
        key_selector=key_selector,  # type: ignore[arg-type]  # None is noted when the plan is checked
        joiner=join.joiner,
        left=join.left,
        with_key=join.with_key,
        on_error=join.options.on_error,
    )
    step = Step([node], relaxes_null_keys=join.left)
    graph.add(step, flow.step)
    return flow.after(step, value_serde=flow.new_value_serde(join.options.value_serde, name))
