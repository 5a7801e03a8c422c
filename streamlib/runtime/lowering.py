"""From the plan to operators: one pipeline for each task, made of fused loops, stateful operators and sinks.

Operators are made from the last one upwards, so that each is given where its output goes. To add one: a node in
`topology/nodes`, a file in `operators` with a builder, and a line in `BUILDERS`.

Next: `operators/fusion`, what a batch meets first; `task`, which feeds the pipeline.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from streamlib.operators.aggregate import stream_aggregate, table_aggregate
from streamlib.operators.async_calls import async_calls
from streamlib.operators.base import (
    AwaitingOperator,
    ClosingOperator,
    FlushingOperator,
    Forward,
    InitializedOperator,
    LoadingOperator,
    Operator,
    OperatorContext,
)
from streamlib.operators.cogroup import cogroup_merge
from streamlib.operators.deduplicate import deduplicate
from streamlib.operators.expiring import ExpiringOperator
from streamlib.operators.foreign_key_left import response_join, subscription_send
from streamlib.operators.foreign_key_right import foreign_table_join, subscription_join, subscription_receive
from streamlib.operators.fusion import fuse
from streamlib.operators.getters import TableGetter
from streamlib.operators.join_in_turns import JoinInTurns, join_in_turns
from streamlib.operators.join_streams import join_window, stream_stream_join
from streamlib.operators.join_table import stream_global_table_join
from streamlib.operators.join_table_grace import stream_table_join_with_grace
from streamlib.operators.join_tables import table_join, table_join_getter, table_join_merge
from streamlib.operators.processor import processor
from streamlib.operators.self_join import stream_self_join
from streamlib.operators.session_aggregate import session_aggregate
from streamlib.operators.session_rows import session_rows
from streamlib.operators.sink import sink
from streamlib.operators.suppress import suppress, suppressed_getter
from streamlib.operators.table import table_group_by, table_step, table_step_getter
from streamlib.operators.table_rows import TableRows
from streamlib.operators.table_source import table_source
from streamlib.operators.transform_values import transform_values, transformed_getter
from streamlib.operators.value_hashes import ValueHashes
from streamlib.operators.window_aggregate import window_aggregate
from streamlib.operators.wiring import Wiring
from streamlib.state.base import StateStore, TimestampedStore
from streamlib.state.cache import WriteCache
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.expiring import ExpiringKeyValueStore
from streamlib.topology.async_nodes import AsyncCalls
from streamlib.topology.cogroup_nodes import CogroupMerge
from streamlib.topology.commit_waits import commits_wait_for_calls
from streamlib.topology.deduplicate_nodes import Deduplicate
from streamlib.topology.foreign_key_nodes import (
    ForeignTableJoin,
    ResponseJoin,
    SubscriptionJoin,
    SubscriptionReceive,
    SubscriptionSend,
)
from streamlib.topology.interference import needs_record_order, nodes_below, region
from streamlib.topology.nodes import (
    Node,
    PassThrough,
    RepartitionFilter,
    Sink,
    Source,
    StreamAggregate,
    StreamGlobalTableJoin,
    StreamTableJoin,
    TableAggregate,
    TableFilter,
    TableGroupBy,
    TableMapValues,
    TableSource,
    WindowAggregate,
)
from streamlib.topology.processor_nodes import ProcessorNode, TableTransformValues
from streamlib.topology.session_nodes import SessionAggregate
from streamlib.topology.stream_join_nodes import JoinWindow, StreamSelfJoin, StreamStreamJoin
from streamlib.topology.suppress_nodes import TableSuppress
from streamlib.topology.table_join_nodes import TableJoin, TableJoinMerge
from streamlib.topology.taking_turns import joined_in_turns
from streamlib.topology.topology import Subtopology, Topology

BUILDERS: Mapping[type[Node], Callable[[Any, Wiring], Operator]] = {
    AsyncCalls: async_calls,
    CogroupMerge: cogroup_merge,
    Deduplicate: deduplicate,
    ForeignTableJoin: foreign_table_join,
    JoinWindow: join_window,
    ResponseJoin: response_join,
    SessionAggregate: session_aggregate,
    ProcessorNode: processor,
    Sink: sink,
    StreamAggregate: stream_aggregate,
    StreamGlobalTableJoin: stream_global_table_join,
    StreamSelfJoin: stream_self_join,
    StreamStreamJoin: stream_stream_join,
    StreamTableJoin: stream_table_join_with_grace,
    SubscriptionJoin: subscription_join,
    SubscriptionReceive: subscription_receive,
    SubscriptionSend: subscription_send,
    TableAggregate: table_aggregate,
    TableFilter: table_step,
    TableGroupBy: table_group_by,
    TableJoin: table_join,
    TableJoinMerge: table_join_merge,
    TableMapValues: table_step,
    TableSource: table_source,
    TableTransformValues: transform_values,
    TableSuppress: suppress,
    WindowAggregate: window_aggregate,
}

GETTERS: Mapping[type[Node], Callable[[Any, Wiring], TableGetter]] = {
    TableFilter: table_step_getter,
    TableJoinMerge: table_join_getter,
    TableMapValues: table_step_getter,
    TableSuppress: suppressed_getter,
    TableTransformValues: transformed_getter,
}
"""How joins read a table that has no store: one that has is read from there."""

OWNERS = (
    SessionAggregate,
    StreamAggregate,
    TableAggregate,
    TableFilter,
    TableJoinMerge,
    TableMapValues,
    TableSource,
    TableTransformValues,
    WindowAggregate,
)
"""Node types that write the store they name."""


@dataclass(frozen=True)
class SourceEntry:
    """Where a source's records enter.

    Attributes:
        node: The source.
        process: Takes a batch of decoded records.
        record_order: Only batches of one record give the right results.
        reads_values: Somebody looks at the values; if not, they may be left as bytes (a null value as None).
    """

    node: Source
    process: Forward
    record_order: bool
    reads_values: bool


class Pipeline:
    """The operators of one task.

    Attributes:
        sources: Where records enter, by name of the source node.
        tables: Every timestamped store with its write cache, by name.
        awaiting: The operators with asynchronous functions, upstream ones first.
        commits_wait: Whether a commit waits until they have no rows.
        in_turns: Takes the records of two sources that meet in a join, in turns; None where there is no such join.
    """

    def __init__(
        self,
        sources: Mapping[str, SourceEntry],
        operators: list[Operator],
        tables: Mapping[str, TableRows],
        *,
        commits_wait: bool = False,
        beside: Sequence[Any] = (),
        in_turns: JoinInTurns | None = None,
    ) -> None:
        self.sources = sources
        self.awaiting = [operator for operator in operators if isinstance(operator, AwaitingOperator)]
        self.commits_wait = commits_wait
        self.in_turns = in_turns
        self._flushing = [operator for operator in operators if isinstance(operator, FlushingOperator)]
        self._initialized = [
            *(operator for operator in operators if isinstance(operator, InitializedOperator)),
            *beside,
        ]
        self._closing = [*(operator for operator in operators if isinstance(operator, ClosingOperator)), *beside]
        self.tables = tables

    def load(self) -> Iterator[None]:
        """Let operators take what they need from their complete stores, in steps, so that `init` need not take long."""
        for operator in self._initialized:
            if isinstance(operator, LoadingOperator):
                yield from operator.load()

    def init(self) -> None:
        """Tell operators that their stores are complete; upstream ones first."""
        for operator in self._initialized:
            operator.init()

    def flush(self, rows_max: int | None = None) -> bool:
        """Flush the write caches; what an upstream one forwards is in those below it before they are flushed.

        Args:
            rows_max: Stop after this many rows, so that the event loop can run; None for all.

        Returns:
            Whether cached updates remain.
        """
        return any(operator.flush(rows_max) for operator in self._flushing)

    def close(self) -> None:
        """Let go what operators hold of the user's."""
        for operator in self._closing:
            operator.close()

    def discard(self) -> None:
        """Forget what the caches hold: the work since the last commit is dropped."""
        for table in self.tables.values():
            table.discard()


def lower(
    topology: Topology,
    subtopology: Subtopology,
    stores: Mapping[str, StateStore],
    context: OperatorContext,
    *,
    caches: CacheMemory | None = None,
    ordered: bool = False,
) -> Pipeline:
    """The operators of a sub-topology.

    Args:
        topology: The plan.
        subtopology: Which part of it.
        stores: The opened stores of the task, and the global ones.
        context: What operators get from the task.
        caches: Memory for write caches; None means that every update is written at once.
        ordered: Whether each row goes all the way down before the next one, also where nobody could tell but by the
            order across topics.
    """
    tables = _tables(topology, subtopology, stores, caches)
    order = _topological(topology, subtopology)
    operators: dict[str, Operator] = {}
    beside: list[Any] = []
    value_hashes: dict[str, ValueHashes] = {}
    in_order = {
        name: ordered or needs_record_order(topology, name)
        for name in subtopology.nodes
        if isinstance(topology.nodes[name], Source)
    }
    rows_apart = {name for source in in_order if in_order[source] for name in [source, *nodes_below(topology, source)]}

    def below(name: str) -> Forward:
        if (late := getattr(topology.nodes[name], "late", None)) is not None:
            return below_without(name, late)
        label = f"topology {topology.name} " if topology.name else ""
        file_name = f"<streamlib {label}subtopology {subtopology.number} {name}>"
        forwards = {exit_: operators[exit_].process for exit_ in region(topology, name)[1]}
        return fuse(topology, name, forwards, context.errors, file_name, ordered=name in rows_apart)

    def below_without(name: str, child: str) -> Forward:
        sibling = topology.nodes[child]
        less = replace(sibling, parents=_less(sibling.parents, name))
        rest = replace(topology, nodes={**topology.nodes, child: less})
        file_name = f"<streamlib subtopology {subtopology.number} {name} but {child}>"
        forwards = {exit_: operators[exit_].process for exit_ in region(rest, name)[1]}
        return fuse(rest, name, forwards, context.errors, file_name, ordered=name in rows_apart)

    def below_child(name: str, child: str) -> Forward:
        siblings = {each.name: each for each in topology.children(name) if each.name != child}
        without = {each: replace(node, parents=_less(node.parents, name)) for each, node in siblings.items()}
        alone = replace(topology, nodes={**topology.nodes, **without})
        label = f"topology {topology.name} " if topology.name else ""
        file_name = f"<streamlib {label}subtopology {subtopology.number} {name} to {child}>"
        forwards = {exit_: operators[exit_].process for exit_ in region(alone, name)[1]}
        return fuse(alone, name, forwards, context.errors, file_name, ordered=name in rows_apart)

    sources: dict[str, SourceEntry] = {}
    for node in reversed(order):
        if isinstance(node, Source):
            sources[node.name] = SourceEntry(
                node, below(node.name), in_order[node.name], reads_values(topology, node.name)
            )
        elif type(node) in BUILDERS:
            forwards = below(node.name), GETTERS, partial(below_child, node.name)
            wiring = Wiring(topology, context, tables, stores, *forwards, beside=beside, value_hashes=value_hashes)
            operators[node.name] = _expiring(node, BUILDERS[type(node)](node, wiring), wiring)
    sides = None if any(in_order.values()) else joined_in_turns(topology, list(sources))
    return Pipeline(
        sources,
        [operators[node.name] for node in order if node.name in operators],
        tables,
        commits_wait=commits_wait_for_calls(topology, subtopology),
        beside=beside,
        in_turns=None if sides is None else join_in_turns(*sides, operators),
    )


def _expiring(node: Node, operator: Operator, wiring: Wiring) -> Operator:
    """The operator of a node, behind one that deletes rows if those of its table expire."""
    store = wiring.stores.get(node.store) if isinstance(node, OWNERS) and node.store is not None else None
    if not isinstance(store, ExpiringKeyValueStore) or not isinstance(node, OWNERS):
        return operator
    spec = wiring.topology.stores[store.name]
    return ExpiringOperator(operator, store, spec, wiring.forward, send_old=node.send_old)


def _less(names: tuple[str, ...], left_out: str) -> tuple[str, ...]:
    return tuple(name for name in names if name != left_out)


def reads_values(topology: Topology, source_name: str) -> bool:
    """Whether anything below a source looks at values; counting only asks whether there is one."""
    for child in topology.children(source_name):
        if isinstance(child, (PassThrough, RepartitionFilter)):
            if reads_values(topology, child.name):
                return True
        elif not _only_counts(child):
            return True
    return False


def _only_counts(node: Node) -> bool:
    """Whether a node counts records, and passes none of them on as it came."""
    if isinstance(node, StreamAggregate):
        return node.kind == "count"
    return isinstance(node, (SessionAggregate, WindowAggregate)) and node.kind == "count" and node.late is None


def _tables(
    topology: Topology, subtopology: Subtopology, stores: Mapping[str, StateStore], caches: CacheMemory | None
) -> dict[str, TableRows]:
    """Every timestamped store as a table; those that want it and live here get a write cache."""
    send_old: dict[str, bool] = {}
    for name in subtopology.nodes:
        node = topology.nodes[name]
        if isinstance(node, OWNERS) and node.store is not None and topology.stores[node.store].caching:
            send_old[node.store] = send_old.get(node.store, False) or node.send_old
    tables: dict[str, TableRows] = {}
    for name, store in stores.items():
        spec = topology.stores[name]
        if not spec.is_table:
            continue
        memory = caches if name in send_old and not subtopology.is_global else None
        if spec.kind == "session":
            tables[name] = session_rows(spec, store, memory=memory, send_old=send_old.get(name, False))
            continue
        table = cast("TimestampedStore[Any]", store)
        cache: WriteCache[Any] | None = None
        if memory is not None:
            cache = WriteCache(table, spec.value_serde, memory=memory, send_old=send_old[name])
        tables[name] = TableRows(spec, table, cache)
    return tables


def _topological(topology: Topology, subtopology: Subtopology) -> list[Node]:
    """The nodes, parents first, otherwise in the order they were added."""
    placed: dict[str, Node] = {}
    waiting = [topology.nodes[name] for name in subtopology.nodes]
    while waiting:
        node = next(node for node in waiting if all(parent in placed for parent in node.parents))
        placed[node.name] = node
        waiting.remove(node)
    return list(placed.values())
