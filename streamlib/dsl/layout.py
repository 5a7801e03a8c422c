"""From the graph of steps to a plan: sources merged, steps ordered, null keys kept where they are needed.

The order decides about numbers of sub-topologies and about which of two siblings gets a record first, so it follows
Java's: steps are written in the order they were added, each after all steps above it.
Source: InternalStreamsBuilder.buildAndOptimizeTopology. Next: `topology/validate`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from heapq import heappop, heappush

from streamlib.dsl.graph import Graph, Step
from streamlib.topology.nodes import Node, RepartitionFilter, Source
from streamlib.topology.plan import Plan


def lay_out(graph: Graph, name: str | None) -> tuple[Plan, list[str]]:
    """The plan, and the mistakes found on the way. The graph stays as it is."""
    problems: list[str] = []
    twins = _equal_sources(graph, problems)
    plan = Plan(name=name, copartitioned=[_renamed(group, twins) for group in graph.copartitioned])
    keeps_null_keys = _steps_above_relaxed_joins(graph.root)
    for step in _in_writing_order(graph, twins):
        parents = [twins.get(parent, parent).output for parent in step.parents if parent is not graph.root]
        nodes = _nodes(step, tuple(dict.fromkeys(parents)), keep_null_keys=step in keeps_null_keys)
        plan.nodes += nodes
        plan.stores += step.stores
        if step.repartition_topic is not None:
            plan.repartition_topics.append(step.repartition_topic)
        if step.source_kind is not None:
            plan.source_kinds |= {node.name: step.source_kind for node in nodes if isinstance(node, Source)}
    return plan, problems


def _nodes(step: Step, parents: tuple[str, ...], *, keep_null_keys: bool) -> list[Node]:
    """The step's nodes, the first below the outputs of the steps above."""
    if not parents:
        return step.nodes
    first = replace(step.nodes[0], parents=parents)
    if isinstance(first, RepartitionFilter):
        first = replace(first, keep_null_keys=keep_null_keys)
    return [first, *step.nodes[1:]]


def _in_writing_order(graph: Graph, twins: Mapping[Step, Step]) -> Iterator[Step]:
    below: dict[Step, list[Step]] = defaultdict(list)
    for twin, first in twins.items():
        below[first] += twin.children
    written = {graph.root}
    waiting: list[tuple[int, Step]] = []

    def offer(steps: list[Step]) -> None:
        for step in steps:
            if step not in twins:
                heappush(waiting, (step.priority, step))

    offer(graph.root.children)
    while waiting:
        _, step = heappop(waiting)
        if step in written or any(twins.get(parent, parent) not in written for parent in step.parents):
            continue
        written.add(step)
        if step.nodes or step.stores:
            yield step
        offer(step.children)
        offer(below[step])


def _equal_sources(graph: Graph, problems: list[str]) -> dict[Step, Step]:
    """Streams of the same topics, each with the first such stream, whose source will read for both."""
    firsts: dict[frozenset[str], Step] = {}
    twins: dict[Step, Step] = {}
    for step in graph.root.children:
        if step.source_kind != "stream":
            continue
        (source,) = step.nodes
        assert isinstance(source, Source)
        first = firsts.setdefault(frozenset(source.topics), step)
        if first is not step:
            twins[step] = first
            problems += _differences(first.nodes[0], source)
    return twins


def _differences(first: Node, second: Source) -> Iterator[str]:
    assert isinstance(first, Source)
    topics = ", ".join(f'"{topic}"' for topic in first.topics)
    for what in ("key_serde", "value_serde"):
        one, other = getattr(first, what).name, getattr(second, what).name
        if one != other:
            yield f"{topics} is read with the {what} {one} and with {other}: read it once, then map its values"
    for what in ("timestamp_extractor", "offset_reset"):
        if getattr(first, what) != getattr(second, what):
            yield f"{topics} is read twice with a different {what}: give both streams the same, or read it once"


def _renamed(sources: frozenset[str], twins: Mapping[Step, Step]) -> frozenset[str]:
    first_of = {twin.output: first.output for twin, first in twins.items()}
    return frozenset(first_of.get(source, source) for source in sources)


def _steps_above_relaxed_joins(root: Step) -> set[Step]:
    """Every step with a join somewhere below it that also wants records without a key.

    Source: NodesWithRelaxedNullKeyJoinDownstream.
    """
    above: set[Step] = set()
    seen: set[Step] = set()

    def visit(step: Step) -> None:
        if step in seen:
            return
        seen.add(step)
        for child in step.children:
            visit(child)
            if child.relaxes_null_keys or child in above:
                above.add(step)

    visit(root)
    return above
