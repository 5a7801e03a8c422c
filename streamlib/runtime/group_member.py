"""What a worker brings into its group: the topics it reads, and what its leader has to know.

Next: `assignor`, which decides from that.
"""

import hashlib

from streamlib.config import StreamsConfig
from streamlib.runtime.assignment_codec import SubscriptionData, SubtopologyData
from streamlib.runtime.assignor import TaskAssignor
from streamlib.runtime.placement import PlacementOptions
from streamlib.runtime.topic_patterns import Reading
from streamlib.runtime.worker import Worker
from streamlib.transport.base import GroupOptions


def group_options(reading: Reading, config: StreamsConfig, process_id: str, worker: Worker) -> GroupOptions:
    """How the worker joins its group.

    Args:
        reading: What it reads; looked at again at each join.
        config: Settings.
        process_id: Of its state directory.
        worker: Hears of rebalances.
    """
    application_id = config.application_id
    fingerprint = hashlib.sha256(reading.topology.describe().encode()).hexdigest()[:16]

    def describe() -> SubscriptionData:
        return SubscriptionData(
            fingerprint,
            process_id,
            worker.manager.report(),
            dict(config.client_tags),
            _subtopologies(reading, application_id),
        )

    options = PlacementOptions(
        standbys=config.num_standby_replicas,
        acceptable_lag=config.acceptable_recovery_lag,
        max_warm_ups=config.max_warmup_replicas,
        spread_tags=tuple(config.rack_aware_assignment_tags),
    )
    return GroupOptions(
        group_id=application_id,
        topics=source_topics(reading, application_id),
        assignor=TaskAssignor(describe, options, worker.decided),
        listener=worker,
        session_timeout_ms=config.session_timeout_ms,
        heartbeat_interval_ms=config.heartbeat_interval_ms,
        rebalance_timeout_ms=config.rebalance_timeout_ms,
        group_instance_id=config.group_instance_id,
    )


def source_topics(reading: Reading, application_id: str) -> frozenset[str]:
    """What the group reads, by its names on the broker."""
    return frozenset(topic for each in _subtopologies(reading, application_id) for topic in each.topics)


def _subtopologies(reading: Reading, application_id: str) -> list[SubtopologyData]:
    """What a leader is told of the plan."""
    topology, counts = reading.topology, reading.counts
    return [
        SubtopologyData(
            each.number,
            {topology.physical_topic(topic, application_id): counts[topic] for topic in each.source_topics},
            bool(each.stores),
            any(topology.changelog_topic(store, application_id) is not None for store in each.stores),
        )
        for each in topology.subtopologies
        if not each.is_global
    ]
