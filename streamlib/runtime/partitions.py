"""How many partitions every topic has, checked before anything is created, and the tasks that follow from it.

Rules as Kafka Streams': a repartition topic gets what the user fixed, else the largest count among the topics that feed
it; topics that are joined must agree; a sub-topology has one task for each partition of its widest source topic.
Source: RepartitionTopics, CopartitionedTopicsEnforcer, PartitionGrouper. Next: `internal_topics`, which creates them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from streamlib.errors import MissingTopicError, TopologyError
from streamlib.record import TopicPartition
from streamlib.topology.nodes import Sink
from streamlib.topology.patterns import patterns_of
from streamlib.topology.topology import Subtopology, Topology


class TaskId(NamedTuple):
    """A sub-topology's number and a partition; written ``0_3``."""

    subtopology: int
    partition: int

    @classmethod
    def parse(cls, text: str) -> "TaskId":
        """The task id that is written so."""
        subtopology, partition = text.split("_")
        return cls(int(subtopology), int(partition))

    def __str__(self) -> str:
        return f"{self.subtopology}_{self.partition}"


def external_topics(topology: Topology) -> frozenset[str]:
    """The topics that users own and that must exist: everything read but repartition topics."""
    return frozenset(
        topic
        for subtopology in topology.subtopologies
        for topic in subtopology.source_topics
        if topic not in topology.repartition_topics
    )


def output_topics(topology: Topology) -> frozenset[str]:
    """The topics that users own and that sinks with a fixed topic write to."""
    written = {node.topic for node in topology.nodes.values() if isinstance(node, Sink) and node.topic is not None}
    return frozenset(written - topology.repartition_topics.keys())


def resolve_partitions(topology: Topology, existing: Mapping[str, int]) -> dict[str, int]:
    """Partition counts of all source topics, repartition topics included (by their names in the plan).

    Args:
        topology: The plan.
        existing: Partition counts of the external topics that exist.

    Raises:
        MissingTopicError: External source topics do not exist, all are named; or none matches a pattern where that is
            needed.
        TopologyError: Topics that are joined have different counts, or a count cannot be derived; all are named.
    """
    missing = sorted(external_topics(topology) - existing.keys())
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        plural = "topics do" if len(missing) > 1 else "topic does"
        msg = (
            f"the source {plural} not exist: {names}. Create {'them' if len(missing) > 1 else 'it'}, "
            f"e.g. streamlib topics create {missing[0]} --partitions 4"
        )
        raise MissingTopicError(msg)
    counts = {topic: existing[topic] for topic in external_topics(topology)}
    _derive_repartition_counts(topology, counts)
    _enforce_copartitioning(topology, counts)
    return counts


def _derive_repartition_counts(topology: Topology, counts: dict[str, int]) -> None:
    """Fill in repartition topics until nothing changes: they may feed one another.

    The two topics of a foreign-key join do so in a circle, which begins with the topics above whose counts are known.
    """
    for topic in topology.repartition_topics.values():
        if topic.partitions is not None:
            counts[topic.name] = topic.partitions
    pending = [name for name in topology.repartition_topics if name not in counts]
    upstream = {
        name: [topic for sub in topology.subtopologies if name in sub.sink_topics for topic in sub.source_topics]
        for name in pending
    }
    if unfed := [f'"{name}"' for name, topics in upstream.items() if not topics]:
        patterns = ", ".join(f'"{pattern.pattern}"' for pattern in patterns_of(topology))
        msg = (
            f"no topic matches {patterns} yet, so the number of partitions of {', '.join(unfed)} is not known: create "
            "a topic that matches, or fix the number with .repartition(partitions=N)"
        )
        raise MissingTopicError(msg)
    while pending:
        ready = [name for name in pending if all(topic in counts for topic in upstream[name])]
        ready = ready or [name for name in pending if any(topic in counts for topic in upstream[name])][:1]
        if not ready:
            names = ", ".join(f'"{name}"' for name in pending)
            raise TopologyError(
                [f"the partition counts of {names} depend on each other: give one of them .repartition(partitions=N)"]
            )
        for name in ready:
            counts[name] = max((counts[topic] for topic in upstream[name] if topic in counts), default=1)
        pending = [name for name in pending if name not in counts]


def _enforce_copartitioning(topology: Topology, counts: dict[str, int]) -> None:
    """Joined topics get equal counts, or all mistakes are raised together."""
    problems = []
    for group in topology.copartition_groups:
        external = {topic: counts[topic] for topic in sorted(group) if topic not in topology.repartition_topics}
        fixed = {
            topic: counts[topic]
            for topic in sorted(group)
            if topic in topology.repartition_topics and topology.repartition_topics[topic].partitions is not None
        }
        required = external or fixed
        if len({*external.values(), *fixed.values()}) > 1:
            listed = " with ".join(f'"{topic}" ({count} partitions)' for topic, count in {**external, **fixed}.items())
            widest = max({*external.values(), *fixed.values()})
            problems.append(
                f"cannot join {listed}: a join needs equal partition counts. "
                f"Call .repartition(partitions={widest}) on the narrower side, or use a global_table."
            )
            continue
        wanted = next(iter(required.values())) if required else max(counts[topic] for topic in group)
        for topic in group:
            counts[topic] = wanted
    if problems:
        raise TopologyError(problems)


def tasks_of(subtopology: Subtopology, counts: Mapping[str, int]) -> list[TaskId]:
    """The tasks of a sub-topology; none for the one that holds global tables."""
    if subtopology.is_global:
        return []
    width = max((counts[topic] for topic in subtopology.source_topics), default=0)
    return [TaskId(subtopology.number, partition) for partition in range(width)]


def task_partitions(
    topology: Topology, task: TaskId, counts: Mapping[str, int], application_id: str
) -> dict[TopicPartition, str]:
    """What a task reads: its partition of every source topic that is wide enough, to the topic's name in the plan."""
    subtopology = next(sub for sub in topology.subtopologies if sub.number == task.subtopology)
    return {
        TopicPartition(topology.physical_topic(topic, application_id), task.partition): topic
        for topic in subtopology.source_topics
        if task.partition < counts[topic]
    }
