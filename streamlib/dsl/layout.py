"""From the graph of steps to a plan: sources merged, optimized, ordered, null keys kept where they are needed.

The order decides about numbers of sub-topologies and about which of two siblings gets a record first, so it follows
Java's: steps are written in the order they were added, each after all steps above it.
Source: InternalStreamsBuilder.buildAndOptimizeTopology. Next: `topology/validate`.
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from heapq import heappop, heappush

from streamlib.dsl.graph import Graph, Step
from streamlib.dsl.optimization import join_with_one_store, merge_repartition_topics, reuse_source_topics, unlink
from streamlib.topology.nodes import Node, RepartitionFilter, Source
from streamlib.topology.plan import Plan


def lay_out(graph: Graph, name: str | None, rules: Collection[str] = ()) -> tuple[Plan, list[str]]:
    """The plan, and the mistakes found on the way. The graph stays as it is.

    Args:
        graph: What the DSL calls have left.
        name: The default application id.
        rules: Which optimizations to apply.
    """
    problems: list[str] = []
    root, steps = _copied(graph)
    gone = _merge_equal_sources(root, problems)
    if "reuse.ktable.source.topics" in rules:
        reuse_source_topics(steps)
    if "merge.repartition.topics" in rules:
        gone |= merge_repartition_topics(steps, graph.names.copy())
    if "single.store.self.join" in rules:
        join_with_one_store(root)
    plan = Plan(name=name, copartitioned=[_renamed(group, gone) for group in graph.copartitioned])
    keeps_null_keys = _steps_above_relaxed_joins(root)
    for step in _in_writing_order(root):
        parents = [parent.output for parent in step.parents if parent is not root]
        nodes = _nodes(step, tuple(parents), keep_null_keys=step in keeps_null_keys)
        plan.nodes += nodes
        # Two operations may bring the same store, as one object.
        plan.stores += [spec for spec in step.stores if not any(spec is held for held in plan.stores)]
        if step.repartition_topic is not None:
            plan.repartition_topics.append(step.repartition_topic)
        if step.source_kind is not None:
            plan.source_kinds |= {node.name: step.source_kind for node in nodes if isinstance(node, Source)}
    return plan, problems


def _copied(graph: Graph) -> tuple[Step, list[Step]]:
    """The root and all other steps, to be changed at will."""
    copies = {step: copy.copy(step) for step in (graph.root, *graph.steps)}
    for step in copies.values():
        step.rewired(copies)
    root, *steps = copies.values()
    return root, steps


def _nodes(step: Step, parents: tuple[str, ...], *, keep_null_keys: bool) -> list[Node]:
    """The step's nodes, the first below the outputs of the steps above."""
    if not parents:
        return step.nodes
    first, *others = step.nodes_below(parents)
    if isinstance(first, RepartitionFilter):
        first = replace(first, keep_null_keys=keep_null_keys)
    return [first, *others]


def _in_writing_order(root: Step) -> Iterator[Step]:
    written = {root}
    waiting: list[tuple[int, int, Step]] = []

    def offer(steps: list[Step]) -> None:
        for step in steps:
            heappush(waiting, (step.priority, id(step), step))

    offer(root.children)
    while waiting:
        *_, step = heappop(waiting)
        if step in written or any(parent not in written for parent in step.parents):
            continue
        written.add(step)
        if step.nodes or step.stores:
            yield step
        offer(step.children)


def _merge_equal_sources(root: Step, problems: list[str]) -> dict[str, str]:
    """Let streams of the same topics be read by the source of the first; the other sources, each with the first.

    Source: InternalStreamsBuilder.mergeDuplicateSourceNodes.
    """
    firsts: dict[object, Step] = {}
    gone: dict[str, str] = {}
    for step in list(root.children):
        if step.source_kind != "stream":
            continue
        (source,) = step.nodes
        assert isinstance(source, Source)
        first = firsts.setdefault(source.pattern or frozenset(source.topics), step)
        if first is not step:
            problems += _differences(first.nodes[0], source)
            gone[step.output] = first.output
            unlink(root, step)
            for child in step.children:
                child.parents = list(dict.fromkeys(first if each is step else each for each in child.parents))
                if child not in first.children:
                    first.children.append(child)
    return gone


def _differences(first: Node, second: Source) -> Iterator[str]:
    assert isinstance(first, Source)
    topics = ", ".join(f'"{topic}"' for topic in first.topics) or f'"{first.subscription}"'
    for what in ("key_serde", "value_serde"):
        one, other = getattr(first, what).name, getattr(second, what).name
        if one != other:
            yield f"{topics} is read with the {what} {one} and with {other}: read it once, then map its values"
    for what in ("timestamp_extractor", "offset_reset", "on_error"):
        if getattr(first, what) != getattr(second, what):
            yield f"{topics} is read twice with a different {what}: give both streams the same, or read it once"


def _renamed(sources: frozenset[str], gone: Mapping[str, str]) -> frozenset[str]:
    """Sources by the names of those that took their places."""
    return frozenset(gone.get(source, source) for source in sources)


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
