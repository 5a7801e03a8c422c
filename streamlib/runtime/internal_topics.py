"""Repartition and changelog topics: created before a worker joins its group, checked when they are there already.

Every worker does this by itself; creating a topic that exists is no error, so workers that start together agree.
Source: InternalTopicManager. Next: `worker`, which joins the group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamlib.config import StreamsConfig
from streamlib.errors import InternalTopicError
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin, TopicSpec

CHECKED = ("cleanup.policy",)  # what would lose state or records when it is wrong


@dataclass(frozen=True)
class WantedTopic:
    """An internal topic as the topology needs it."""

    name: str
    kind: str
    partitions: int
    configs: Mapping[str, str] = field(default_factory=dict)


def wanted_topics(topology: Topology, config: StreamsConfig, counts: Mapping[str, int]) -> list[WantedTopic]:
    """All internal topics with their partition counts.

    Args:
        topology: The plan.
        config: Names the application; `topic_configs` go over the defaults.
        counts: Partition counts of all source topics by their names in the plan.
    """
    widths = {
        store: max((counts[topic] for topic in subtopology.source_topics), default=0)
        for subtopology in topology.subtopologies
        for store in subtopology.stores
    }
    by_changelog = {topology.changelog_topic(store, config.application_id): width for store, width in widths.items()}
    wanted = []
    additional = config.windowstore_changelog_additional_retention_ms
    for topic in internal_topics(topology, config.application_id, config.topic_configs, additional):
        if topic.kind == "changelog":
            partitions = by_changelog[topic.name]
            if not partitions:  # no topic matches the pattern that feeds the store, yet
                continue
        else:
            partitions = counts[topic.name.removeprefix(f"{config.application_id}-")]
        wanted.append(WantedTopic(topic.name, topic.kind, partitions, topic.configs))
    return wanted


async def ensure_topics(admin: Admin, wanted: list[WantedTopic], replication_factor: int) -> None:
    """Create what is missing and check what is there; checks come first, so a mistake creates nothing.

    Raises:
        InternalTopicError: A topic exists with another partition count or a dangerous configuration; all are named.
    """
    names = [topic.name for topic in wanted]
    await _check(admin, wanted, await admin.partition_counts(names))
    existing = await admin.partition_counts(names)
    missing = [topic for topic in wanted if topic.name not in existing]
    await admin.create_topics(
        [TopicSpec(topic.name, topic.partitions, replication_factor, topic.configs) for topic in missing]
    )
    # Another worker may have created some of them meanwhile, perhaps from another version of the topology.
    await _check(admin, missing, await admin.partition_counts([topic.name for topic in missing]))


async def _check(admin: Admin, wanted: list[WantedTopic], existing: Mapping[str, int]) -> None:
    problems = []
    present = [topic for topic in wanted if topic.name in existing]
    configs = await admin.topic_configs([topic.name for topic in present]) if present else {}
    for topic in present:
        if existing[topic.name] != topic.partitions:
            problems.append(
                f'{topic.kind} topic "{topic.name}" has {existing[topic.name]} partitions, the topology needs '
                f"{topic.partitions}: the source topics' partition counts have changed. Run streamlib reset to start "
                "over, or use a new application id."
            )
        for key in CHECKED:
            found, needed = configs[topic.name].get(key), topic.configs.get(key)
            if needed is not None and found is not None and set(found.split(",")) != set(needed.split(",")):
                problems.append(
                    f'{topic.kind} topic "{topic.name}" has {key}={found}, it must be {needed}, or records the '
                    f"application still needs are deleted. Alter the topic, or delete it with streamlib reset."
                )
    if problems:
        raise InternalTopicError("\n".join(problems))
