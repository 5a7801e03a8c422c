"""What Kafka Streams' ``topology.optimization`` does to the graph of steps, asked for in `StreamsBuilder.build`.

Each rule saves topics or stores and changes names of internal topics, so an application that runs must be reset when
they are switched on or off. Source: InternalStreamsBuilder.optimizeTopology (KIP-295). Next: `layout`, which calls it
with a copy of the graph.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from streamlib.dsl.flow import topic_step
from streamlib.dsl.graph import Step, TableStep
from streamlib.dsl.join_streams import StreamJoinStep
from streamlib.topology.async_nodes import AsyncCalls
from streamlib.topology.naming import Names
from streamlib.topology.nodes import FlatMap, FlatMapValues, MapRows, MapValues, SelectKey, Source
from streamlib.topology.processor_nodes import ProcessorNode

Rule = Literal["reuse.ktable.source.topics", "merge.repartition.topics", "single.store.self.join"]

Optimization = Literal["all", "none"] | Rule | Iterable[Rule]
"""All rules, none, or some of them. Text with commas is taken as well, as Java's setting has it."""

ALL: frozenset[str] = frozenset(get_args(Rule))

_NEW_KEYS = (FlatMap, MapRows, SelectKey)
_NEW_VALUES = (FlatMapValues, MapValues)


def chosen_rules(optimization: Optimization, problems: list[str]) -> frozenset[str]:
    """The rules that were asked for; a name that is none is noted."""
    given = optimization.split(",") if isinstance(optimization, str) else list(optimization)
    names = {str(name).strip() for name in given} - {""}
    if names == {"all"}:
        return ALL
    if unknown := sorted(names - ALL - ({"none"} if len(names) == 1 else set())):
        problems.append(
            f"optimization cannot be {', '.join(map(repr, unknown))}: give all, none, or some of "
            f"{', '.join(sorted(ALL))}"
        )
    return frozenset(names & ALL)


def reuse_source_topics(steps: Sequence[Step]) -> None:
    """Let the topic a table is read from serve as its changelog, too.

    Source: InternalStreamsBuilder.reuseKTableSourceTopics.
    """
    for step in steps:
        if isinstance(step, TableStep) and step.source_kind == "table":
            source = step.nodes[0]
            assert isinstance(source, Source)
            step.stores = [
                # Rows that expire are deleted in the changelog, which must be the table's own then.
                replace(spec, source_topic=source.topics[0], logging=False) if spec.ttl_ms is None else spec
                for spec in step.stores
            ]


def join_with_one_store(root: Step) -> None:
    """Keep the records of a stream that is joined with itself once.

    Source: InternalStreamsBuilder.rewriteSingleStoreSelfJoin.
    """
    for step in _all_below(root):
        if isinstance(step, StreamJoinStep) and len(step.parents) == 1:
            unlink(step.parents[0], step.windowed[1])
            step.join_with_itself()


def merge_repartition_topics(steps: Sequence[Step], names: Names) -> dict[str, str]:
    """Repartition once behind each step that changes keys, instead of before each step that needs the new keys.

    Repartitioning moves up past the steps between, unless one of them makes new values, which may be larger, and past
    merges down to the last one. The first topic stays, the others go. One that the user asked for is not touched.

    Args:
        steps: In the order they were added.
        names: Where numbers for new nodes come from.

    Returns:
        The sources that are gone, each with the one that takes its place.

    Source: InternalStreamsBuilder.mergeRepartitionTopics, with process() taken for what it is, an operation that makes
    new keys and values (KAFKA-19668). Where Java fails to build (several topics below one step, merges of merges), and
    where it would leave records of a merged stream in wrong partitions, this does the right thing.
    """
    replaced: dict[str, str] = {}
    for above, repartitions in _to_merge(steps).items():
        if repartitions:
            _merge(above, repartitions, names, replaced)
    return replaced


def _to_merge(steps: Sequence[Step]) -> dict[Step, list[Step]]:
    """The steps behind which to repartition, each with the repartitioning steps that this replaces.

    Below several steps that change keys and are merged, the place is the merge.
    Source: InternalStreamsBuilder.maybeUpdateKeyChangingRepartitionNodeMap.
    """
    below: dict[Step, list[Step]] = {step: [] for step in steps if _may_be_repartitioned(step)}
    for step in steps:
        if step.mergeable and (above := _key_changer(step)) is not None:
            below[above].append(step)
    merges = [step for step in steps if step.merges]
    places: dict[Step, list[Step]] = {}
    moved: set[Step] = set()
    for merge in merges:
        mine = [
            above
            for above, repartitions in below.items()
            if all(_is_above(merge, each) for each in repartitions) and _is_above(above, merge)
        ]
        moved.update(mine)
        places[merge] = list(dict.fromkeys(each for above in mine for each in below[above]))
    lower: set[Step] = set()
    for merge in reversed(merges):  # one below another was added later
        places[merge] = [each for each in places[merge] if each not in lower]
        lower.update(places[merge])
    places = {above: repartitions for above, repartitions in below.items() if above not in moved} | places
    return {
        above: [each for each in repartitions if not _is_rekeyed_beside(above, each)]
        for above, repartitions in places.items()
    }


def _is_rekeyed_beside(above: Step, repartition: Step) -> bool:
    """Whether records with new keys come to a repartitioning step on a way that leads not past ``above``.

    They would not be repartitioned behind ``above``; Java does not look.
    """
    seen = {above}
    waiting = list(repartition.parents)
    while waiting:
        step = waiting.pop()
        if step in seen or step.repartition_topic is not None:
            continue
        seen.add(step)
        if _changes_keys(step):
            return True
        waiting += step.parents
    return False


def _merge(above: Step, repartitions: Sequence[Step], names: Names, replaced: dict[str, str]) -> None:
    first_topic, first_source = repartitions[0].repartition_topic, repartitions[0].nodes[-1]
    assert first_topic is not None
    assert isinstance(first_source, Source)
    shared = topic_step(names, first_topic.name, first_source.key_serde, first_source.value_serde)
    shared.priority = above.priority  # it comes right behind
    for step in repartitions:
        child = _first(step, lambda each: above in each.parents)
        if child is not None:
            unlink(above, child)
            _link(shared, child)
        parents, children = list(step.parents), list(step.children)
        for below in children:
            for parent in parents:
                _link(parent, below)
        for parent in parents:
            unlink(parent, step)
        for below in children:
            unlink(step, below)
        if step.output != shared.output:
            replaced[step.output] = shared.output
    _link(above, shared)


def _key_changer(step: Step) -> Step | None:
    """The nearest step above that changes keys, if none on the way makes new values.

    Source: InternalStreamsBuilder.getKeyChangingParentNode.
    """
    nearest = _first(step, lambda each: _changes_keys(each) or _changes_values(each))
    return nearest if nearest is _first(step, _may_be_repartitioned) else None


def _may_be_repartitioned(step: Step) -> bool:
    """Whether a topic right behind a step may take the place of several below: not behind a processor, as in Java."""
    return _changes_keys(step) and not isinstance(step.nodes[-1], ProcessorNode)


def _changes_keys(step: Step) -> bool:
    node = step.nodes[-1] if step.nodes else None
    if isinstance(node, ProcessorNode):
        return not node.fixed_key
    return isinstance(node, _NEW_KEYS) or (isinstance(node, AsyncCalls) and node.gives != "value")


def _changes_values(step: Step) -> bool:
    return any(isinstance(node, (*_NEW_VALUES, AsyncCalls, ProcessorNode)) for node in step.nodes)


def _is_above(above: Step, step: Step) -> bool:
    return _first(step, lambda each: above in each.parents) is not None


def _first(step: Step, wanted: Callable[[Step], bool]) -> Step | None:
    """The step itself or the first one above it that is wanted, depth first.

    Source: InternalStreamsBuilder.findParentNodeMatching.
    """
    seen: set[Step] = set()

    def visit(each: Step) -> Step | None:
        if wanted(each):
            return each
        seen.add(each)
        for parent in each.parents:
            if parent not in seen and (found := visit(parent)) is not None:
                return found
        return None

    return visit(step)


def _all_below(root: Step) -> Collection[Step]:
    found: dict[Step, None] = {}
    waiting = [root]
    while waiting:
        step = waiting.pop()
        if step not in found:
            found[step] = None
            waiting += step.children
    return found


def _link(parent: Step, child: Step) -> None:
    if child not in parent.children:
        parent.children.append(child)
    if parent not in child.parents:
        child.parents.append(parent)


def unlink(parent: Step, child: Step) -> None:
    """Let a step feed another no more."""
    if child in parent.children:
        parent.children.remove(child)
        child.parents.remove(parent)
