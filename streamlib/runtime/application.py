"""Starts and stops one worker of an application, written out in order.

    transport → comparison with the last topology → checks of all topics (nothing is created before they pass)
    → internal topics → state directory → global tables, read whole → producer → group membership
    → the worker's loop; and back in reverse.

Next: `worker`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from streamlib.clock import Clock, SystemClock
from streamlib.config import StreamsConfig
from streamlib.errors import AuthorizationError, BrokerUnavailableError, ConfigError
from streamlib.metrics import Metrics
from streamlib.runtime.commit import Committer, Purger
from streamlib.runtime.exactly_once import check_transactions
from streamlib.runtime.fencing import Fencing, transactional_id
from streamlib.runtime.free_space import FreeSpace
from streamlib.runtime.future_times import FutureTimes
from streamlib.runtime.global_tables import GlobalTables
from streamlib.runtime.group_member import group_options, source_topics
from streamlib.runtime.health import Vitals
from streamlib.runtime.internal_topics import ensure_topics, wanted_topics
from streamlib.runtime.loop_watch import HoldSampler, LoopWatch
from streamlib.runtime.pacing import Pacing
from streamlib.runtime.partitions import external_topics, output_topics, resolve_partitions
from streamlib.runtime.past_times import PastTimes
from streamlib.runtime.permissions import Permissions
from streamlib.runtime.producer_holder import ProducerHolder
from streamlib.runtime.rarely import Rarely
from streamlib.runtime.record_collector import RecordCollector
from streamlib.runtime.record_errors import RecordErrors, dead_letter_topics
from streamlib.runtime.remembered_topics import RememberedTopics
from streamlib.runtime.restore import RestoreListener, Restorer, cancelled
from streamlib.runtime.standby import Standbys
from streamlib.runtime.stored_tasks import StoredTasks
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.topic_patterns import Reading, TopicPatterns
from streamlib.runtime.topic_watch import TopicWatch, topics_in_use
from streamlib.runtime.topology_check import TopologyCheck
from streamlib.runtime.watchdog import Watchdog
from streamlib.runtime.worker import Worker
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import RocksMemory
from streamlib.topology.patterns import patterns_of, resolved
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin, Consumer, TopicSpec, Transport

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_ABANDONED: list[AsyncExitStack] = []  # in a forked process: closing them would disturb the process they belong to


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
        AuthorizationError: A permission was missing for a minute.
        MissingTopicError, TopologyError, InternalTopicError: Topics are not as the topology needs them; nothing was
            created.
        StateDirLockedError: Another process uses the state directory.
    """
    deadline = clock.monotonic() + config.broker_start_timeout_ms / 1000
    outage, permissions = Rarely(clock), Permissions(clock)
    while True:
        pause = RETRY_SECONDS
        async with AsyncExitStack() as stack:
            try:
                worker = await _open(stack, topology, config, transport, clock, metrics, listener)
            except BrokerUnavailableError as error:
                if clock.monotonic() >= deadline:
                    raise
                if outage.now():
                    log.warning("waiting for the broker at %s: %s", transport.address, error)
            except AuthorizationError as error:
                pause = permissions.refused(error)
            else:
                try:
                    yield worker
                finally:
                    if worker.owner.forked:
                        _ABANDONED.append(stack.pop_all())
                return
        await clock.sleep(pause)


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
    check, remembered = TopologyCheck(topology, config), RememberedTopics(config)
    existing = await admin.partition_counts(None)
    await check.check(admin, existing)
    await remembered.check(resolved(topology, existing, application_id), admin, existing)
    reading = await _prepare_topics(topology, config, transport, admin, existing)
    topology, counts = reading.topology, reading.counts
    directory, space = _state_directory(stack, topology, config, clock, metrics)
    check.keep()
    ids = await remembered.keep(topology, admin, directory)

    global_tables = GlobalTables(topology, config, directory, clock, metrics, space)
    stack.push_async_callback(global_tables.close)
    await global_tables.load(transport, admin, counts, listener)
    existing = await admin.partition_counts(None)
    producer = _producer(transport, config, directory)
    stack.push_async_callback(producer.close)
    await producer.start()
    physical = partial(topology.physical_topic, application_id=application_id)
    collector = RecordCollector(producer, existing, physical, metrics)
    stores = global_tables.stores
    errors = RecordErrors(config, topology.nodes, collector, metrics, clock)
    caches, times = CacheMemory(config.statestore_cache_max_bytes), FutureTimes(config, clock, metrics)
    made_from = (topology, config, counts, directory, collector, producer, metrics, stores, clock, errors, caches)
    factory = TaskFactory(*made_from, times)
    restorer = Restorer(transport, admin, config, clock, listener, space)
    worker = Worker(config, transport, factory, producer, restorer, clock, metrics)
    stored = await StoredTasks.look(directory, clock, config.state_cleanup_delay_ms, topology)
    standbys = Standbys(transport, admin, config, clock, metrics, stored, space)
    stack.push_async_callback(standbys.close)
    consumer = transport.consumer(group_options(reading, config, directory.process_id(), worker))

    def changed(reading: Reading) -> None:
        now = replace(factory, topology=reading.topology, counts=reading.counts)
        worker.read(now, source_topics(reading, application_id))

    patterns = TopicPatterns(reading, config, admin, changed) if patterns_of(topology) else None
    watch = TopicWatch(admin, topics_in_use(topology, application_id, existing), clock, patterns, ids)
    following = [global_tables.follow, watch.follow, standbys.follow, space.follow]
    if transport.max_workers is None:  # an embedded broker for one process deletes nothing by age
        following.append(PastTimes(topology, worker.manager.running, admin, clock).follow)
    companions = [asyncio.ensure_future(worker.permissions.awaited(each)) for each in following]
    companions += _watchers(worker, consumer, admin, config, clock, metrics)
    for companion in companions:
        stack.push_async_callback(cancelled, companion)
    repartition = [topology.physical_topic(name, application_id) for name in topology.repartition_topics]
    purger = Purger(admin, repartition, config.repartition_purge_interval_ms, clock)
    pacing = Pacing(clock, config.loop_budget_ms // 2)  # a flush is followed by sending what was flushed
    committer = Committer(producer, consumer, clock, pacing)
    fencing = Fencing(transport, config) if config.exactly_once else None
    worker.connect(consumer, committer, purger, watch, standbys, fencing, companions)
    # The consumer leaves the group first: whatever was not committed is no longer ours to deliver.
    stack.push_async_callback(worker.close)
    stack.push_async_callback(consumer.close)
    await consumer.start()
    return worker


def _watchers(
    worker: Worker, consumer: Consumer, admin: Admin, config: StreamsConfig, clock: Clock, metrics: Metrics
) -> list["asyncio.Task[None]"]:
    """What watches over the worker: begun, and told of where its health is looked up."""
    watchdog = Watchdog(worker, consumer, admin, config, clock, metrics)
    real = isinstance(clock, SystemClock)
    loop = LoopWatch(clock, metrics, HoldSampler(clock) if real else None)
    worker.vitals = Vitals(worker, watchdog, loop)
    following = [loop.follow()] if real else []
    if config.stall_timeout_ms:
        following.append(worker.permissions.awaited(watchdog.follow))
    return [asyncio.ensure_future(each) for each in following]


def _producer(transport: Transport, config: StreamsConfig, directory: StateDirectory) -> ProducerHolder:
    """What makes the worker's producers, one at a time."""
    make_producer = transport.producer
    if config.exactly_once:
        name = transactional_id(config.application_id, directory.process_id())
        make_producer = partial(transport.producer, name, config.transaction_timeout_ms)
    return ProducerHolder(make_producer, transactional=config.exactly_once)


def _state_directory(
    stack: AsyncExitStack, topology: Topology, config: StreamsConfig, clock: Clock, metrics: Metrics
) -> tuple[StateDirectory, FreeSpace]:
    """The locked directory, and who watches the room there is for stores on disk."""
    directory = StateDirectory.open(config.state_dir, config.application_id, RocksMemory(config.state_memory_bytes))
    stack.callback(directory.close)
    on_disk = any(spec.persistent for spec in topology.stores.values())
    space = FreeSpace(directory.path, config.state_min_free_bytes if on_disk else 0, clock, metrics)
    space.check()
    return directory, space


async def _prepare_topics(
    topology: Topology, config: StreamsConfig, transport: Transport, admin: Admin, existing: dict[str, int]
) -> Reading:
    """The plan with its source topics and their partition counts; internal topics exist afterwards."""
    if transport.max_workers is not None:
        existing = await _create_embedded(resolved(topology, existing, config.application_id), config, admin, existing)
    topology = resolved(topology, existing, config.application_id)
    sources = external_topics(topology)
    if absent := (sources | output_topics(topology)) - existing.keys():
        # A topic that we may not describe is in no list; asked for by its name, the broker says that we may not.
        existing = {**existing, **await admin.partition_counts(absent)}
    counts = resolve_partitions(topology, {topic: existing[topic] for topic in sources if topic in existing})
    missing = sorted((output_topics(topology) | dead_letter_topics(topology.nodes, config)) - existing.keys())
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        msg = (
            f"the topology writes to topics that do not exist: {names}. "
            f"Create them, e.g. streamlib topics create {missing[0]} --partitions 4"
        )
        raise ConfigError(msg)
    await ensure_topics(admin, wanted_topics(topology, config, counts), config.replication_factor)
    return Reading(topology, counts)


async def _create_embedded(
    topology: Topology, config: StreamsConfig, admin: Admin, existing: dict[str, int]
) -> dict[str, int]:
    """On the embedded broker topics need no planning: missing ones are made as wide as the widest source."""
    sources = external_topics(topology)
    width = max((existing[topic] for topic in sources if topic in existing), default=1)
    missing = (sources | output_topics(topology) | dead_letter_topics(topology.nodes, config)) - existing.keys()
    if missing:
        log.info("creating topics on the embedded broker: %s", ", ".join(sorted(missing)))
        await admin.create_topics([TopicSpec(topic, width) for topic in sorted(missing)])
    return await admin.partition_counts(None)
