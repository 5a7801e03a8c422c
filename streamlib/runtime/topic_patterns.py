"""Topics that match a pattern come and go while a worker runs: it is told, and its group shares them out.

Each worker looks by itself. Until all workers of a group know a topic nobody reads it. A topic that would make a
sub-topology wider than its changelogs and repartition topics stops the workers, as in Java.
Next: `topic_watch`, which asks for the topics; `worker`, which goes on with the new plan.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamlib.config import StreamsConfig
from streamlib.runtime.internal_topics import ensure_topics, wanted_topics
from streamlib.runtime.partitions import external_topics, resolve_partitions
from streamlib.topology.patterns import resolved
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin

log = logging.getLogger(__name__)


@dataclass
class Reading:
    """What an application reads at the moment.

    Attributes:
        topology: The plan, with the topics that match its patterns.
        counts: Partition counts of all source topics by their names in the plan.
    """

    topology: Topology
    counts: Mapping[str, int]


class TopicPatterns:
    """Keeps up to date which topics an application with patterns reads.

    Attributes:
        reading: What it reads now.
        application_id: The first part of internal topics' names.

    Args:
        reading: What it reads; changed here.
        config: The worker's settings.
        admin: Creates internal topics, if some could not be created before.
        changed: Called when ``reading`` has changed.
    """

    def __init__(
        self, reading: Reading, config: StreamsConfig, admin: Admin, changed: Callable[[Reading], None]
    ) -> None:
        self.reading = reading
        self.application_id = config.application_id
        self._config = config
        self._admin = admin
        self._changed = changed

    def lost(self, existing: Mapping[str, int]) -> bool:
        """Whether topics that are read are not there any more."""
        return not external_topics(self.reading.topology) <= existing.keys()

    async def look(self, existing: Mapping[str, int]) -> bool:
        """Read what matches now; whether that is something else than before.

        Args:
            existing: Partition counts of all topics of the broker.

        Raises:
            TopologyError: A topic matches two patterns, or has another partition count than one it is joined with.
            InternalTopicError: A topic has more partitions than the application's internal topics.
            MissingTopicError: A topic that is read by its name is not there.
        """
        topology = resolved(self.reading.topology, existing, self._config.application_id)
        before, now = external_topics(self.reading.topology), external_topics(topology)
        if before == now:
            return False
        counts = resolve_partitions(topology, {topic: existing[topic] for topic in now if topic in existing})
        await ensure_topics(self._admin, wanted_topics(topology, self._config, counts), self._config.replication_factor)
        for what, topics in (("more", now - before), ("no longer", before - now)):
            if topics:
                log.info("topics that match a pattern, %s: %s", what, ", ".join(sorted(topics)))
        self.reading.topology, self.reading.counts = topology, counts
        self._changed(self.reading)
        return True
