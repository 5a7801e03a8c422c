"""What all aggregations of streams share: the repartition topic above them and the store below. Next: `grouped`."""

from dataclasses import replace
from typing import Any

from streamlib.dsl.flow import Flow, repartition_step
from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.late import LateTo, add_late, passing_late
from streamlib.dsl.options import StoreOptions
from streamlib.serdes.base import AnySerde
from streamlib.serdes.primitives import INT64
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Node
from streamlib.topology.windows import EmitStrategy, FixedWindows, SlidingWindows, to_ms


class Grouping:
    """A stream with the keys to aggregate by.

    If the stream has to be repartitioned, every aggregation gets a topic of its own, named after its store; but a
    grouping that the user has named has one topic for all. Source: GroupedStreamAggregateBuilder.
    """

    def __init__(self, flow: Flow, name: str | None) -> None:
        self.flow = flow
        self._name = name
        self._repartition: Step | None = None

    def store(
        self, options: StoreOptions, prefix: str, value_serde: AnySerde, windows: FixedWindows | None = None
    ) -> StoreSpec:
        """The store of an aggregation; for windows it keeps each of them for the retention."""
        graph = self.flow.graph
        spec = graph.store(options, prefix, self.flow.key_serde, value_serde, windowed=windows is not None)
        if windows is None:
            return spec
        least = windows.default_retention_ms
        retention_ms = retention_of(graph, spec, options, least, "windows", f"{windows!r} need {least} ms")
        return replace(spec, kind="window", retention_ms=retention_ms, window_size_ms=windows.size_ms)

    def count_store(self, options: StoreOptions, windows: FixedWindows | None = None) -> StoreSpec:
        """The store of a count; an unnamed one that was asked for takes two numbers, as in Java (if not sliding)."""
        if not isinstance(windows, SlidingWindows):
            self.take_count_number(options)
        return self.store(options, "KSTREAM-AGGREGATE-", INT64, windows)

    def take_count_number(self, options: StoreOptions) -> None:
        """Take the number that the store of a count takes beside its own, if it was asked for without a name."""
        if options.asked_for and options.store_name is None:
            self.flow.graph.names.store("KSTREAM-AGGREGATE-")

    def aggregate(self, node: Node, spec: StoreSpec, late_to: "LateTo[Any, Any] | None" = None) -> Flow:
        """The flow after an aggregation; its step is a table. The store is set in the node."""
        flow = self._partitioned(spec.name)
        step = TableStep([passing_late(node, late_to)], spec=spec)
        step.materialize()
        flow.graph.add(step, flow.step)
        add_late(flow, step, late_to)
        return flow.after(step, value_serde=spec.value_serde)

    def repartition(self, store_name: str) -> Step | None:
        """A step with a topic of its own for an aggregation, not in the graph yet; None when none is needed."""
        return repartition_step(self.flow, self._name or store_name) if self.flow.rekeyed else None

    def _partitioned(self, store_name: str) -> Flow:
        if not self.flow.rekeyed:
            return self.flow
        step = repartition_step(self.flow, self._name or store_name)
        if self._repartition is None or self._name is None:
            self._repartition = step
        self.flow.graph.add(self._repartition, self.flow.step)
        return self.flow.behind(self._repartition)


def retention_of(graph: Graph, spec: StoreSpec, options: StoreOptions, least_ms: int, kept: str, need: str) -> int:
    """How long (ms) a windowed store keeps what it has; too short a time is noted, ``need`` being why."""
    retention_ms = least_ms if options.retention is None else to_ms(options.retention)
    if retention_ms < least_ms:
        graph.problems.append(
            f'the store "{spec.name}" keeps {kept} for {retention_ms} ms, but {need}: '
            "give it a longer retention, or none"
        )
    return retention_ms


def emitting(spec: StoreSpec, windows: FixedWindows, emit: EmitStrategy) -> StoreSpec:
    """The store of an aggregation that passes its results on at such times.

    For results that wait it keeps the order of time, and that of sliding windows has no write cache.
    Source: WindowStoreMaterializer, SlidingWindowStoreMaterializer.
    """
    if emit is EmitStrategy.ON_WINDOW_UPDATE:
        return spec
    caching = spec.caching and not isinstance(windows, SlidingWindows)
    return replace(spec, caching=caching, time_ordered=True, inclusive_retention=spec.persistent)
