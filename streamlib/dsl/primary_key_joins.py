"""Joins of two tables by their common key.

Next: `topology/table_join_nodes`, what is left of them in the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import TableStep
from streamlib.dsl.options import StoreOptions, ValueOptions
from streamlib.topology.nodes import Node
from streamlib.topology.table_join_nodes import TableJoin, TableJoinMerge

JoinKind = Literal["inner", "left", "outer"]


@dataclass(eq=False, kw_only=True)
class TableJoinStep(TableStep):
    """A join of two tables: a node for the updates of each side, and the joined table below both.

    Attributes:
        left: The left table.
        right: The right table.
    """

    left: TableStep
    right: TableStep

    def nodes_below(self, parents: tuple[str, ...]) -> list[Node]:
        """The nodes, each side below its own table, which may be the same one."""
        this, other, merge = self.nodes
        return [replace(this, parents=parents[:1]), replace(other, parents=parents[-1:]), merge]

    def view(self) -> tuple[str, ...]:
        """Names of the stores from which the joined rows can be had: its own, or those of both sides."""
        if self.has_store:
            return super().view()
        return tuple(dict.fromkeys((*self.left.view(), *self.right.view())))

    def send_old_values(self, *, force: bool) -> bool:
        """Make results carry the value before them, for which both sides must send theirs, stored at any cost.

        Source: KTableKTableJoinMerger.enableSendingOldValues.
        """
        self.left.send_old_values(force=True)
        self.right.send_old_values(force=True)
        self.nodes = [replace(node, send_old=True) for node in self.nodes]  # type: ignore[call-arg]
        return True


def join_tables(
    left: Flow,
    right: Flow,
    joiner: Callable[..., Any],
    kind: JoinKind,
    options: tuple[ValueOptions, StoreOptions],
) -> tuple[Flow, str | None]:
    """The flow of the joined table, and the name of its store if it has one. Both tables get stores if they have none.

    Numbers for names are taken for the store (if one is asked for without a name), the joined table, the left side and
    the right side, in this order. Source: KTableImpl.doJoin.
    """
    values, store = options
    graph = left.graph
    serde = left.new_value_serde(values.value_serde, values.name or "join")
    spec = graph.store(store, "KTABLE-MERGE-", left.key_serde, serde) if store.asked_for else None
    merge_name = graph.name(values.name, "KTABLE-MERGE-")
    this_name = graph.name(values.name, "KTABLE-JOINTHIS-", "-join-this")
    other_name = graph.name(values.name, "KTABLE-JOINOTHER-", "-join-other")
    if graph.is_foreign(right.graph, merge_name):
        return left, None
    left_table, right_table = left.step, right.step
    assert isinstance(left_table, TableStep)
    assert isinstance(right_table, TableStep)
    keeps_left, keeps_right = kind != "inner", kind == "outer"
    if keeps_left:
        left_table.send_old_values(force=True)
    if keeps_right:
        right_table.send_old_values(force=True)
    this = TableJoin(
        name=this_name,
        table=right_table.output,
        joiner=joiner,
        stores=right_table.view(),
        keeps_own=keeps_left,
        keeps_other=keeps_right,
        on_error=values.on_error,
    )
    other = TableJoin(
        name=other_name,
        table=left_table.output,
        joiner=joiner,
        stores=left_table.view(),
        is_right=True,
        keeps_own=keeps_right,
        keeps_other=keeps_left,
        on_error=values.on_error,
    )
    merge = TableJoinMerge(name=merge_name, parents=(this_name, other_name))
    step = TableJoinStep(nodes=[this, other, merge], spec=spec, left=left_table, right=right_table)
    step.materialize()
    graph.add(step, left_table, right_table)
    sources = left.sources | right.sources
    graph.copartitioned.append(sources)
    return replace(left, sources=sources).after(step, value_serde=serde), None if spec is None else spec.name
