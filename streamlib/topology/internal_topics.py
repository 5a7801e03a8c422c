"""What a plan needs on a broker beside its own topics: repartition and changelog topics, configured as in Java.

Next: `runtime/internal_topics`, which creates and checks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamlib.state.spec import StoreSpec
from streamlib.topology.topology import Topology

DAY_MS = 86_400_000
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True)
class InternalTopic:
    """A topic that belongs to one application.

    Attributes:
        name: On the broker, with the application id.
        kind: What it is for.
        partitions: What the user fixed for a repartition topic; None: follows from the topics that feed it.
        configs: Settings the topic is created with.
    """

    name: str
    kind: Literal["repartition", "changelog"]
    partitions: int | None = None
    configs: Mapping[str, str] = field(default_factory=dict)


def internal_topics(
    topology: Topology,
    application_id: str,
    overrides: Mapping[str, str] | None = None,
    additional_retention_ms: int = DAY_MS,
) -> list[InternalTopic]:
    """All internal topics, by name.

    Args:
        topology: The plan.
        application_id: The first part of every name.
        overrides: Settings for all of them: stronger than the defaults, weaker than those of a single store.
        additional_retention_ms: Added to the retention of a windowed store
            (``windowstore_changelog_additional_retention_ms``).

    Source: RepartitionTopicConfig, WindowedChangelogTopicConfig, UnwindowedUnversionedChangelogTopicConfig.
    """
    everywhere = {"message.timestamp.type": "CreateTime"}
    topics = []
    for topic in topology.repartition_topics.values():
        configs = everywhere | {"cleanup.policy": "delete", "segment.bytes": "52428800", "retention.ms": "-1"}
        name = topology.physical_topic(topic.name, application_id)
        topics.append(InternalTopic(name, "repartition", topic.partitions, configs | dict(overrides or {})))
    for spec in topology.stores.values():
        changelog = topology.changelog_topic(spec.name, application_id)
        if changelog is None or spec.source_topic is not None:
            continue
        configs = everywhere | {"cleanup.policy": _cleanup_policy(spec)} | dict(overrides or {})
        if spec.expires:
            configs["retention.ms"] = str(min(spec.retention_ms + additional_retention_ms, MAX_INT64))
        if spec.kind == "versioned":
            configs["min.compaction.lag.ms"] = str(min(spec.retention_ms + DAY_MS, MAX_INT64))
        topics.append(InternalTopic(changelog, "changelog", None, configs | dict(spec.topic_configs)))
    return sorted(topics, key=lambda topic: topic.name)


def _cleanup_policy(spec: StoreSpec) -> str:
    if not spec.expires:
        return "compact"
    # Rows of a store with duplicates have unique keys: compaction would find nothing to do.
    return "delete" if spec.retain_duplicates else "compact,delete"
