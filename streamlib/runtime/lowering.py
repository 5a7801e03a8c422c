"""From the plan to operators: one pipeline for each task, made of fused loops, stateful operators and sinks.

Operators are made from the last one upwards, so that each is given where its output goes. To add one: a node in
`topology/nodes`, a file in `operators` with a builder, and a line in `BUILDERS`.

Next: `operators/fusion`, what a batch meets first; `task`, which feeds the pipeline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from streamlib.operators.aggregate import stream_aggregate, table_aggregate
from streamlib.operators.base import FlushingOperator, Forward, InitializedOperator, Operator, OperatorContext
from streamlib.operators.fusion import fuse
from streamlib.operators.join_table import stream_global_table_join, stream_table_join
from streamlib.operators.sink import sink
from streamlib.operators.table import table_group_by, table_step
from streamlib.operators.table_rows import TableRows
from streamlib.operators.table_source import table_source
from streamlib.operators.window_aggregate import window_aggregate
from streamlib.operators.wiring import Wiring
from streamlib.state.base import StateStore, TimestampedStore
from streamlib.state.cache import WriteCache
from streamlib.topology.interference import needs_record_order, region
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
from streamlib.topology.topology import Subtopology, Topology

BUILDERS: Mapping[type[Node], Callable[[Any, Wiring], Operator]] = {
    Sink: sink,
    StreamAggregate: stream_aggregate,
    StreamGlobalTableJoin: stream_global_table_join,
    StreamTableJoin: stream_table_join,
    TableAggregate: table_aggregate,
    TableFilter: table_step,
    TableGroupBy: table_group_by,
    TableMapValues: table_step,
    TableSource: table_source,
    WindowAggregate: window_aggregate,
}

OWNERS = (StreamAggregate, TableAggregate, TableFilter, TableMapValues, TableSource, WindowAggregate)
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
    """

    def __init__(
        self, sources: Mapping[str, SourceEntry], operators: list[Operator], tables: Mapping[str, TableRows]
    ) -> None:
        self.sources = sources
        self._flushing = [operator for operator in operators if isinstance(operator, FlushingOperator)]
        self._initialized = [operator for operator in operators if isinstance(operator, InitializedOperator)]
        self._tables = tables

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

    def discard(self) -> None:
        """Forget what the caches hold: the work since the last commit is dropped."""
        for table in self._tables.values():
            if table.cache is not None:
                table.cache.discard()


def lower(
    topology: Topology,
    subtopology: Subtopology,
    stores: Mapping[str, StateStore],
    context: OperatorContext,
    *,
    cache_bytes: int = 0,
) -> Pipeline:
    """The operators of a sub-topology.

    Args:
        topology: The plan.
        subtopology: Which part of it.
        stores: The opened stores of the task, and the global ones.
        context: What operators get from the task.
        cache_bytes: Memory for all write caches of the task; 0 means that every update is written at once.
    """
    tables = _tables(topology, subtopology, stores, cache_bytes)
    order = _topological(topology, subtopology)
    operators: dict[str, Operator] = {}

    def below(name: str) -> Forward:
        label = f"topology {topology.name} " if topology.name else ""
        file_name = f"<streamlib {label}subtopology {subtopology.number} {name}>"
        forwards = {exit_: operators[exit_].process for exit_ in region(topology, name)[1]}
        return fuse(topology, name, forwards, context.errors, file_name)

    sources: dict[str, SourceEntry] = {}
    for node in reversed(order):
        if isinstance(node, Source):
            sources[node.name] = SourceEntry(
                node, below(node.name), needs_record_order(topology, node.name), reads_values(topology, node.name)
            )
        elif type(node) in BUILDERS:
            wiring = Wiring(topology, context, tables, stores, below(node.name))
            operators[node.name] = BUILDERS[type(node)](node, wiring)
    return Pipeline(sources, [operators[node.name] for node in order if node.name in operators], tables)


def reads_values(topology: Topology, source_name: str) -> bool:
    """Whether anything below a source looks at values; counting only asks whether there is one."""
    for child in topology.children(source_name):
        if isinstance(child, (PassThrough, RepartitionFilter)):
            if reads_values(topology, child.name):
                return True
        elif not (isinstance(child, (StreamAggregate, WindowAggregate)) and child.kind == "count"):
            return True
    return False


def _tables(
    topology: Topology, subtopology: Subtopology, stores: Mapping[str, StateStore], cache_bytes: int
) -> dict[str, TableRows]:
    """Every timestamped store as a table; those that want it and live here get a write cache, with equal shares."""
    send_old: dict[str, bool] = {}
    for name in subtopology.nodes:
        node = topology.nodes[name]
        if isinstance(node, OWNERS) and node.store is not None and topology.stores[node.store].caching:
            send_old[node.store] = send_old.get(node.store, False) or node.send_old
    caching = cache_bytes > 0 and not subtopology.is_global
    tables = {}
    for name, store in stores.items():
        spec = topology.stores[name]
        if not spec.is_table:
            continue
        table = cast("TimestampedStore[Any]", store)
        cache: WriteCache[Any] | None = None
        if caching and name in send_old:
            share = cache_bytes // len(send_old)
            cache = WriteCache(table, spec.value_serde, max_bytes=share, send_old=send_old[name])
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
