"""Starts and stops one worker of an application, written out in order.

    transport → comparison with the last topology → checks of all topics (nothing is created before they pass)
    → internal topics → state directory → global tables, read whole → producer → group membership
    → the worker's loop; and back in reverse.

Next: `worker`.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import BrokerUnavailableError, ConfigError
from streamlib.metrics import Metrics
from streamlib.runtime.assignment_codec import SubscriptionData, SubtopologyData
from streamlib.runtime.assignor import TaskAssignor
from streamlib.runtime.commit import Committer, Purger
from streamlib.runtime.exactly_once import check_transactions
from streamlib.runtime.global_tables import GlobalTables
from streamlib.runtime.internal_topics import ensure_topics, wanted_topics
from streamlib.runtime.pacing import Pacing
from streamlib.runtime.partitions import TaskId, external_topics, output_topics, resolve_partitions
from streamlib.runtime.producer_holder import ProducerHolder
from streamlib.runtime.rarely import Rarely
from streamlib.runtime.record_collector import RecordCollector
from streamlib.runtime.restore import RestoreListener, Restorer, cancelled
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.topic_patterns import Reading, TopicPatterns
from streamlib.runtime.topic_watch import TopicWatch, topics_in_use
from streamlib.runtime.topology_check import TopologyCheck
from streamlib.runtime.worker import Worker
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import RocksMemory
from streamlib.topology.patterns import patterns_of, resolved
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin, GroupOptions, TopicSpec, Transport

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


@asynccontextmanager
async def open_worker(
    topology: Topology,
    config: StreamsConfig,
    transport: Transport,
    clock: Clock,
    metrics: Metrics,
    listener: RestoreListener,
) -> AsyncIterator[Worker]:
    """A worker ready to `run`; everything it opened is closed afterwards.

    Raises:
        BrokerUnavailableError: Nobody answered for `broker_start_timeout_ms`.
        MissingTopicError, TopologyError, InternalTopicError: Topics are not as the topology needs them; nothing was
            created.
        StateDirLockedError: Another process uses the state directory.
    """
    deadline = clock.monotonic() + config.broker_start_timeout_ms / 1000
    outage = Rarely(clock)
    while True:
        async with AsyncExitStack() as stack:
            try:
                worker = await _open(stack, topology, config, transport, clock, metrics, listener)
            except BrokerUnavailableError as error:
                if clock.monotonic() >= deadline:
                    raise
                if outage.now():
                    log.warning("waiting for the broker at %s: %s", transport.address, error)
            else:
                yield worker
                return
        await clock.sleep(RETRY_SECONDS)


async def _open(
    stack: AsyncExitStack,
    topology: Topology,
    config: StreamsConfig,
    transport: Transport,
    clock: Clock,
    metrics: Metrics,
    listener: RestoreListener,
) -> Worker:
    """Open everything in order; ``stack`` closes it, also after half of it."""
    application_id = config.application_id
    check_transactions(topology, config)
    await transport.start()
    stack.push_async_callback(transport.close)
    admin = await transport.admin()
    stack.push_async_callback(admin.close)
    check = TopologyCheck(topology, config)
    await check.check(admin, await admin.partition_counts(None))
    reading = await _prepare_topics(topology, config, transport, admin)
    topology, counts = reading.topology, reading.counts
    memory = RocksMemory(config.state_memory_bytes)
    directory = StateDirectory.open(config.state_dir, application_id, memory)
    stack.callback(directory.close)
    check.keep()

    global_tables = GlobalTables(topology, config, directory, clock, metrics)
    stack.push_async_callback(global_tables.close)
    await global_tables.load(transport, admin, counts, listener)
    existing = await admin.partition_counts(None)
    make_producer = transport.producer
    if config.exactly_once:
        transactional_id = f"{application_id}-{directory.process_id()}"
        make_producer = partial(transport.producer, transactional_id, config.transaction_timeout_ms)
    producer = ProducerHolder(make_producer, transactional=config.exactly_once)
    stack.push_async_callback(producer.close)
    await producer.start()
    physical = partial(topology.physical_topic, application_id=application_id)
    collector = RecordCollector(producer, existing, physical, metrics)
    stores = global_tables.stores
    factory = TaskFactory(topology, config, counts, directory, collector, producer, metrics, stores, clock)
    restorer = Restorer(transport, admin, config, clock, listener)
    worker = Worker(config, transport, factory, producer, restorer, clock, metrics)
    consumer = transport.consumer(_group(reading, config, directory, worker))

    def changed(reading: Reading) -> None:
        now = replace(factory, topology=reading.topology, counts=reading.counts)
        worker.read(now, _source_topics(reading, application_id))

    patterns = TopicPatterns(reading, config, admin, changed) if patterns_of(topology) else None
    watch = TopicWatch(admin, topics_in_use(topology, application_id, existing), clock, patterns)
    companions = [asyncio.ensure_future(each) for each in (global_tables.follow(), watch.follow())]
    for companion in companions:
        stack.push_async_callback(cancelled, companion)
    repartition = [topology.physical_topic(name, application_id) for name in topology.repartition_topics]
    purger = Purger(admin, repartition, config.repartition_purge_interval_ms, clock)
    pacing = Pacing(clock, config.loop_budget_ms // 2)  # a flush is followed by sending what was flushed
    committer = Committer(producer, consumer, clock, config.state_apply_interval_ms, pacing)
    worker.connect(consumer, committer, purger, watch, companions)
    # The consumer leaves the group first: whatever was not committed is no longer ours to deliver.
    stack.push_async_callback(worker.close)
    stack.push_async_callback(consumer.close)
    await consumer.start()
    return worker


async def _prepare_topics(topology: Topology, config: StreamsConfig, transport: Transport, admin: Admin) -> Reading:
    """The plan with its source topics and their partition counts; internal topics exist afterwards."""
    existing = await admin.partition_counts(None)
    if transport.max_workers is not None:
        existing = await _create_embedded(resolved(topology, existing, config.application_id), admin, existing)
    topology = resolved(topology, existing, config.application_id)
    sources = external_topics(topology)
    counts = resolve_partitions(topology, {topic: existing[topic] for topic in sources if topic in existing})
    missing = sorted(output_topics(topology) - existing.keys())
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        msg = (
            f"the topology writes to topics that do not exist: {names}. "
            f"Create them, e.g. streamlib topics create {missing[0]} --partitions 4"
        )
        raise ConfigError(msg)
    await ensure_topics(admin, wanted_topics(topology, config, counts), config.replication_factor)
    return Reading(topology, counts)


async def _create_embedded(topology: Topology, admin: Admin, existing: dict[str, int]) -> dict[str, int]:
    """On the embedded broker topics need no planning: missing ones are made as wide as the widest source."""
    sources = external_topics(topology)
    width = max((existing[topic] for topic in sources if topic in existing), default=1)
    missing = (sources | output_topics(topology)) - existing.keys()
    if missing:
        log.info("creating topics on the embedded broker: %s", ", ".join(sorted(missing)))
        await admin.create_topics([TopicSpec(topic, width) for topic in sorted(missing)])
    return await admin.partition_counts(None)


def _source_topics(reading: Reading, application_id: str) -> frozenset[str]:
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
        )
        for each in topology.subtopologies
        if not each.is_global
    ]


def _group(reading: Reading, config: StreamsConfig, directory: StateDirectory, worker: Worker) -> GroupOptions:
    """How the worker joins its group."""
    application_id = config.application_id
    stateful = {each.number for each in _subtopologies(reading, application_id) if each.stateful}
    fingerprint = hashlib.sha256(reading.topology.describe().encode()).hexdigest()[:16]

    def describe() -> SubscriptionData:
        subtopologies = _subtopologies(reading, application_id)
        running = [(task.subtopology, task.partition) for task in worker.manager.tasks]
        on_disk = [TaskId.parse(text) for text in directory.task_ids()]
        stored = [(task.subtopology, task.partition) for task in on_disk if task.subtopology in stateful]
        return SubscriptionData(fingerprint, running, stored, subtopologies)

    return GroupOptions(
        group_id=application_id,
        topics=_source_topics(reading, application_id),
        assignor=TaskAssignor(describe),
        listener=worker,
        session_timeout_ms=config.session_timeout_ms,
        heartbeat_interval_ms=config.heartbeat_interval_ms,
        rebalance_timeout_ms=config.rebalance_timeout_ms,
        group_instance_id=config.group_instance_id,
    )
