"""What all aggregations of a cogroup share: the streams that take part, each with its aggregator. Next: `cogrouped`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Step, TableStep
from streamlib.dsl.grouping import Grouping
from streamlib.dsl.late import LateTo, add_late, passing_late
from streamlib.state.spec import StoreSpec
from streamlib.topology.cogroup_nodes import CogroupMerge
from streamlib.topology.nodes import Node

PREFIX = "COGROUPKSTREAM-AGGREGATE-"

Aggregator = Callable[[Any, Any, Any], Any]
"""(key, value, aggregate) to the new aggregate."""


@dataclass(eq=False, kw_only=True)
class CogroupStep(TableStep):
    """The table of a cogroup.

    Attributes:
        aggregations: The steps that write its store.
    """

    aggregations: list[Step] = field(default_factory=list)

    def send_old_values(self, *, force: bool) -> bool:
        """Make the updates of all aggregations carry old values. Source: KTablePassThrough.enableSendingOldValues."""
        for step in self.aggregations:
            step.change(send_old=True)
        return True

    @property
    def is_versioned(self) -> bool:
        """Whether the store is versioned."""
        return any(spec.kind == "versioned" for step in self.aggregations for spec in step.stores)


class Cogrouping:
    """Grouped streams whose records go into one aggregate for each key.

    Those that have to be repartitioned get a topic each, named after the first aggregation's store or after the
    grouping; later aggregations read the same topics. Source: CogroupedStreamAggregateBuilder.
    """

    def __init__(self, grouping: Grouping, aggregator: Aggregator) -> None:
        self.first = grouping
        self._aggregators = {grouping: aggregator}
        self._behind: dict[Grouping, Flow] = {}

    def add(self, grouping: Grouping, aggregator: Aggregator) -> None:
        """One more stream; one that takes part already gets another aggregator."""
        if not self.first.flow.graph.is_foreign(grouping.flow.graph, "cogroup"):
            self._aggregators[grouping] = aggregator

    def aggregate(
        self,
        name: str | None,
        spec: StoreSpec,
        make_node: Callable[[str, Aggregator], Node],
        late_to: "LateTo[Any, Any] | None" = None,
    ) -> Flow:
        """The flow of the table.

        Args:
            name: What the names of its nodes begin with.
            spec: Its store.
            make_node: Gives the node of one stream's aggregation.
            late_to: Where late records of all streams go.
        """
        graph = self.first.flow.graph
        self._repartition(spec.name)
        steps: list[Step] = []
        for number, (grouping, aggregator) in enumerate(self._aggregators.items()):
            node = make_node(graph.name(name, PREFIX, f"-cogroup-agg-{number}"), aggregator)
            step = Step([passing_late(node, late_to)], stores=[] if steps else [spec])
            step.change(stores=(spec.name,))
            graph.add(step, self._behind[grouping].step)
            add_late(self._behind[grouping], step, late_to)
            steps.append(step)
        merge = CogroupMerge(name=graph.name(name, "COGROUPKSTREAM-MERGE-", "-cogroup-merge"), store=spec.name)
        table = CogroupStep([merge], aggregations=steps)
        graph.add(table, *steps)
        sources = self._sources()
        flow = Flow(graph, table, spec.key_serde, spec.value_serde, sources)
        graph.copartitioned.append(sources)
        return flow

    def _repartition(self, store_name: str) -> None:
        for grouping in self._aggregators:
            step = grouping.repartition(store_name)
            if step is None:
                self._behind[grouping] = grouping.flow
            elif grouping not in self._behind:
                grouping.flow.graph.add(step, grouping.flow.step)
                self._behind[grouping] = grouping.flow.behind(step)

    def _sources(self) -> frozenset[str]:
        return frozenset(source for grouping in self._aggregators for source in self._behind[grouping].sources)
