"""Mistakes that show in a plan as a whole. Mistakes within one operation are noted by `dsl` as it is called.

Each is one sentence: what is wrong, where, and the mend. Next: `subtopologies`, for a plan without mistakes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields

from streamlib.error_policies import topic_of, what_is_wrong
from streamlib.topology.naming import is_generated
from streamlib.topology.nodes import Node, Source
from streamlib.topology.plan import Plan
from streamlib.topology.subtopologies import copartition_groups

FUNCTIONS = {
    "action",
    "adder",
    "aggregator",
    "foreign_key",
    "initializer",
    "joiner",
    "key_selector",
    "mapper",
    "merger",
    "predicate",
    "subtractor",
    "supplier",
}
"""Fields of nodes that hold a function of the user."""

MAY_BE_NONE = {"partitioner", "selector", "timestamp_extractor", "topic_fn"}
"""Likewise, where the user need not give one."""


def problems(plan: Plan) -> list[str]:
    """All mistakes, each one sentence."""
    return [
        *_topics_read_twice(plan),
        *_patterns(plan),
        *_names_given_twice(plan),
        *_stores(plan),
        *_global_stores(plan),
        *_custom_stores(plan),
        *_not_callable(plan.nodes),
        *_partition_counts(plan),
        *_error_policies(plan),
    ]


def _topics_read_twice(plan: Plan) -> Iterator[str]:
    readers: dict[str, list[str]] = defaultdict(list)
    for node in plan.nodes:
        if isinstance(node, Source):
            for topic in node.topics:
                readers[topic].append(node.name)
    for topic, names in readers.items():
        kinds = sorted({plan.source_kinds[name] for name in names})
        if len(names) == 1:
            continue
        if kinds == ["stream"]:
            yield (
                f'"{topic}" is read by sources with different lists of topics ({", ".join(names)}): '
                "give all of them the same list, or branch off one stream"
            )
        elif kinds == ["repartition"]:
            yield (
                f'the repartition topic "{topic}" is made {len(names)} times: '
                "give the operations it is named after different names"
            )
        elif len(kinds) == 1:
            yield f'"{topic}" is read as a {kinds[0]} {len(names)} times: make it once and use it for both'
        else:
            yield (
                f'"{topic}" is read as a {" and as a ".join(kinds)}: '
                "read it once and turn it into the other (to_table, to_stream)"
            )


def _error_policies(plan: Plan) -> Iterator[str]:
    global_sources = {name for name, kind in plan.source_kinds.items() if kind == "global table"}
    for node in plan.nodes:
        if node.on_error is None:
            continue
        if (wrong := what_is_wrong(node.on_error)) is not None:
            yield f'the on_error of "{node.name}": {wrong}'
        elif topic_of(node.on_error) is not None and global_sources & {node.name, *node.parents}:
            yield (
                f'"{node.name}" cannot write dead letters: every worker reads a global table, and would write each of '
                "them. Use skip() or fail() as its on_error"
            )


def _patterns(plan: Plan) -> Iterator[str]:
    sources = [node for node in plan.nodes if isinstance(node, Source)]
    readers = {node.pattern: node for node in reversed(sources) if node.pattern is not None}
    for node in sources:
        if node.pattern is not None and readers[node.pattern] is not node:
            first = readers[node.pattern].name
            yield f'the pattern "{node.subscription}" is read by "{first}" and by "{node.name}": read it once'
    for pattern, reader in reversed(readers.items()):
        for topic in dict.fromkeys(topic for node in sources for topic in node.topics):
            if pattern.fullmatch(topic):
                yield (
                    f'"{topic}", which the topology reads by its name, matches the pattern "{pattern.pattern}" of '
                    f'"{reader.name}", too: name it once, or make the pattern narrower'
                )


def _names_given_twice(plan: Plan) -> Iterator[str]:
    # The nodes around a repartition topic are named after it: one mistake, reported with the topic.
    topics = Counter(topic.name for topic in plan.repartition_topics)
    around = {f"{name}-{part}" for name, count in topics.items() if count > 1 for part in ("filter", "sink", "source")}
    for name, count in Counter(node.name for node in plan.nodes).items():
        if count > 1 and name not in around:
            yield f'{count} operations are named "{name}": names must be unique, give each its own (name=...)'
    for name, count in Counter(spec.name for spec in plan.stores).items():
        if count > 1:
            yield f'{count} stores are named "{name}": names must be unique, give each its own (store=...)'


def _stores(plan: Plan) -> Iterator[str]:
    known = {spec.name for spec in plan.stores}
    used: dict[str, str] = {}
    for node in plan.nodes:
        for store in node.stores:
            used.setdefault(store, node.name)
    for store, node_name in used.items():
        if store not in known:
            yield f'"{node_name}" uses the store "{store}", which does not exist: add it with add_state_store'
    for store in dict.fromkeys(spec.name for spec in plan.stores if spec.name not in used):
        yield f'nothing uses the store "{store}": name it in the operation that needs it, or do not add it'


def _custom_stores(plan: Plan) -> Iterator[str]:
    for spec in plan.stores:
        if spec.kind == "custom" and spec.source_topic is not None:
            yield (
                f'the custom store "{spec.name}" cannot be filled from the topic "{spec.source_topic}": '
                "read the topic as a stream, and fill the store in a processor"
            )


def _global_stores(plan: Plan) -> Iterator[str]:
    fed_globally = {
        node.name for node in plan.nodes if any(plan.source_kinds.get(name) == "global table" for name in node.parents)
    }
    stores = {store for node in plan.nodes if node.name in fed_globally for store in node.stores}
    for node in plan.nodes:
        for store in node.stores:
            if store in stores and node.name not in fed_globally:
                yield f'"{node.name}" names the global store "{store}", which every processor may read: leave it out'


def _not_callable(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        kind = getattr(node, "kind", None)
        spared = {None: set(), "count": FUNCTIONS, "reduce": {"initializer", "merger"}, "aggregate": set()}[kind]
        for entry in fields(node):
            value = getattr(node, entry.name)
            wanted = entry.name in FUNCTIONS - spared or (entry.name in MAY_BE_NONE and value is not None)
            if wanted and not callable(value):
                yield f'"{node.name}" needs a function as its {entry.name}, got {value!r}'


def _partition_counts(plan: Plan) -> Iterator[str]:
    fixed = {topic.name: topic.partitions for topic in plan.repartition_topics if topic.partitions is not None}
    for group in copartition_groups(plan.nodes, plan.copartitioned):
        counts = {topic: fixed[topic] for topic in sorted(group & fixed.keys())}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f'"{topic}" has {count}' for topic, count in counts.items())
            yield f"a join needs equal partition counts, but {listed}: give repartition() the same partitions"


def unstable_names(plan: Plan) -> list[str]:
    """Names of stores and repartition topics that would move if an operation were added before them."""
    stores = [spec.name for spec in plan.stores if spec.logging or spec.persistent]
    return [name for name in (*stores, *(topic.name for topic in plan.repartition_topics)) if is_generated(name)]
