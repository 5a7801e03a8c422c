"""Looks now and then whether the topics of the application are still there, and as wide as they were.

A deleted changelog would only show as deliveries that never end, new partitions of a source topic not at all.
Next: `worker`, which stops with what this raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from streamlib.clock import Clock
from streamlib.errors import BrokerUnavailableError, DataLossError, InternalTopicError, MissingTopicError
from streamlib.runtime.topic_patterns import TopicPatterns
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.nodes import Sink
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin

SECONDS = 10.0
DOUBT_SECONDS = 1.0
MISSES = 3  # in a row: right after a broker has started it may not know all topics yet

Kind = Literal["source", "sink", "repartition", "changelog"]

_MENDS: Mapping[Kind, str] = {
    "source": "Create it again, or take it out of the topology, and start again",
    "sink": "Create it again, and start again",
    "repartition": "Records that were not processed yet are lost; the next start creates it again",
    "changelog": "The state on disk is all that is left: streamlib reset starts over from the source topics, and "
    "otherwise the next start creates it again without what it held",
}


@dataclass(frozen=True)
class TopicInUse:
    """A topic that a running worker needs.

    Attributes:
        kind: What it is for.
        partitions: How many it had at the start.
    """

    kind: Kind
    partitions: int


def topics_in_use(topology: Topology, application_id: str, existing: Mapping[str, int]) -> dict[str, TopicInUse]:
    """Everything the application reads and writes, by its name on the broker.

    Args:
        topology: The plan.
        application_id: The first part of internal topics' names.
        existing: Partition counts of the topics that exist.
    """
    kinds: dict[str, Kind] = {}
    for node in topology.nodes.values():
        if isinstance(node, Sink) and node.topic is not None:
            kinds[node.topic] = "sink"
    for subtopology in topology.subtopologies:
        kinds |= dict.fromkeys(subtopology.source_topics, "source")
    for name in topology.repartition_topics:
        kinds.pop(name, None)
    for topic in internal_topics(topology, application_id):
        kinds[topic.name] = topic.kind
    return {name: TopicInUse(kind, existing[name]) for name, kind in kinds.items() if name in existing}


class TopicWatch:
    """Watches topics beside a worker.

    Args:
        admin: Whom to ask.
        topics: What has to be there.
        clock: Time.
        patterns: Hears which topics there are, if some are read by a pattern.
        ids: The ids of topics at the start, as far as they are known; of others, those seen first.
    """

    def __init__(
        self,
        admin: Admin,
        topics: Mapping[str, TopicInUse],
        clock: Clock,
        patterns: TopicPatterns | None = None,
        ids: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._admin = admin
        self._topics = dict(topics)
        self._ids = dict(ids)
        self._clock = clock
        self._patterns = patterns

    async def follow(self) -> None:
        """Watch until cancelled.

        Raises:
            MissingTopicError, DataLossError, InternalTopicError, TopologyError: As `look`, once it is certain.
        """
        misses = 0
        while True:
            await self._clock.sleep(DOUBT_SECONDS if misses else SECONDS)
            try:
                await self.look(certain=misses + 1 >= MISSES)
                misses = 0
            except BrokerUnavailableError:
                pass
            except MissingTopicError:
                misses += 1
                if misses >= MISSES:
                    raise

    async def look(self, *, certain: bool = True) -> None:
        """Look once.

        Args:
            certain: Whether a topic that was read by a pattern and is not there is one that has gone.

        Raises:
            MissingTopicError: Topics are not there; all are named, with what to do.
            DataLossError: Topics were deleted and made anew; all are named.
            InternalTopicError: Source or internal topics have another number of partitions than at the start, or too
                few for a topic that matches a pattern.
            TopologyError: A topic that matches a pattern does not fit the others.
            BrokerUnavailableError: Nobody answers.
        """
        patterns = self._patterns
        found = await self._admin.partition_counts(list(self._topics) if patterns is None else None)
        if patterns is not None and (certain or not patterns.lost(found)) and await patterns.look(found):
            before = {name: topic.partitions for name, topic in self._topics.items()}
            self._topics = topics_in_use(patterns.reading.topology, patterns.application_id, {**found, **before})
        missing = [
            f'the {topic.kind} topic "{name}" does not exist any more. {_MENDS[topic.kind]}.'
            for name, topic in sorted(self._topics.items())
            if name not in found
        ]
        if missing:
            raise MissingTopicError("\n".join(missing))
        await self._check_ids()
        changed = [
            f'the {topic.kind} topic "{name}" has {found[name]} partitions now, it had {topic.partitions} when this '
            "worker started. Start all workers again, so that every partition is read; an application with state "
            "needs streamlib reset or a new application id for that."
            for name, topic in sorted(self._topics.items())
            if topic.kind != "sink" and found[name] != topic.partitions
        ]
        if changed:
            raise InternalTopicError("\n".join(changed))

    async def _check_ids(self) -> None:
        """Raise for topics that are others under the same name: positions, and state, are of those that have gone."""
        now = await self._admin.topic_ids([name for name, topic in self._topics.items() if topic.kind != "sink"])
        problems = [
            f'the {self._topics[name].kind} topic "{name}" was deleted and made anew while this worker ran (its id was '
            f"{self._ids[name]} and is {found}): what it had is lost. Start again with --set on_data_loss=earliest (or "
            "latest) to go on without that, or start over with streamlib reset."
            for name, found in sorted(now.items())
            if self._ids.setdefault(name, found) != found
        ]
        if problems:
            raise DataLossError("\n".join(problems))
