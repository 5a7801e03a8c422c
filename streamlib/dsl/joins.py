"""Joins of a stream with a table. Next: `topology/nodes`, what is left of them in the plan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.options import ValueOptions
from streamlib.topology.nodes import StreamGlobalTableJoin, StreamTableJoin


@dataclass(frozen=True)
class Join:
    """What all joins are told.

    Attributes:
        joiner: The user's function.
        left: Whether rows without a match come out too.
        with_key: Whether the joiner is called with the key first.
        options: Name of the node and serde of the results.
    """

    joiner: Callable[..., Any]
    left: bool
    with_key: bool
    options: ValueOptions


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
    node = StreamTableJoin(
        name=name,
        table=table_step.output,
        stores=table_step.view(),
        joiner=join.joiner,
        left=join.left,
        with_key=join.with_key,
    )
    step = Step([node], relaxes_null_keys=join.left)
    graph.add(step, flow.step)
    joined = replace(flow, sources=sources, rekeyed=False)
    return joined.after(step, value_serde=flow.new_value_serde(join.options.value_serde, name))


def join_global_table(
    flow: Flow, table_graph: Graph, store: str, join: Join, key_selector: Callable[[Any, Any], Any] | None
) -> Flow:
    """The flow after a join with a global table: no repartitioning, no equal partition counts."""
    graph = flow.graph
    name = graph.name(join.options.name, "KSTREAM-LEFTJOIN-")
    if graph.is_foreign(table_graph, name):
        return flow
    node = StreamGlobalTableJoin(
        name=name,
        store=store,
        key_selector=key_selector,  # type: ignore[arg-type]  # None is noted when the plan is checked
        joiner=join.joiner,
        left=join.left,
        with_key=join.with_key,
    )
    step = Step([node], relaxes_null_keys=join.left)
    graph.add(step, flow.step)
    return flow.after(step, value_serde=flow.new_value_serde(join.options.value_serde, name))
