"""Global tables: every worker reads all partitions of their topics, wholly before any task starts, and keeps following.

The topic itself is the changelog. Rows are kept as the bytes they came in, after a check that they decode. Joins see
whatever is there at that moment: global tables are not synchronized with streams by time.

Source: GlobalStreamThread, GlobalStateManagerImpl. Next: `operators/join_table`, which looks rows up.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import BrokerUnavailableError, MissingTopicError, OffsetOutOfRangeError
from streamlib.metrics import Metrics
from streamlib.record import TopicPartition
from streamlib.runtime.free_space import FreeSpace
from streamlib.runtime.global_updates import GlobalUpdates
from streamlib.runtime.restore import RestoreListener
from streamlib.runtime.task_stores import open_engine
from streamlib.state.base import Engine, StateStore
from streamlib.state.directory import GLOBAL, StateDirectory
from streamlib.state.stores import open_store
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin, Consumer, Transport

log = logging.getLogger(__name__)

POLL_RECORDS = 10_000
APPLY_ROWS = 50_000
READ_CACHE_BYTES = 16 * 1024 * 1024


class GlobalTables:
    """All global tables of a worker.

    Attributes:
        stores: By name; empty until `load`.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        directory: StateDirectory,
        clock: Clock,
        metrics: Metrics,
        space: FreeSpace,
    ) -> None:
        self.stores: dict[str, StateStore] = {}
        self._updates = GlobalUpdates(topology, config, metrics, self.stores, clock)
        self._specs = self._updates.specs
        self._directory = directory
        self._clock = clock
        self._space = space
        self._engine: Engine | None = None
        self._consumer: Consumer | None = None
        self._next: dict[TopicPartition, int] = {}

    async def load(
        self, transport: Transport, admin: Admin, counts: Mapping[str, int], listener: RestoreListener
    ) -> None:
        """Read every topic to the end it has now.

        Raises:
            DeserializationError, ProcessingError: A row does not decode, or its processor fails, and the policy is to
                fail.
        """
        if not self._specs:
            return
        self._engine = open_engine(self._directory, GLOBAL, persistent=True)
        for spec in self._specs.values():
            self.stores[spec.name] = open_store(spec, self._engine, cache_bytes=READ_CACHE_BYTES)
        self._updates.begin()
        tps = [TopicPartition(topic, number) for topic in self._specs for number in range(counts[topic])]
        first, end = await admin.beginning_offsets(tps), await admin.end_offsets(tps)
        held = self._engine.offsets()
        for tp in tps:
            offset = held.get(self._offset_name(tp))
            # Rows deleted before the log's start may survive here: only a fresh read of the whole topic is right.
            self._next[tp] = offset if offset is not None and first[tp] <= offset <= end[tp] else first[tp]
            listener.started(tp, self._specs[tp.topic].name, self._next[tp], end[tp])
        self._consumer = transport.consumer()
        await self._consumer.start()
        self._consumer.assign(self._next)
        waiting = {tp for tp in tps if self._next[tp] < end[tp]}
        while waiting:
            await self._poll(waiting, timeout_ms=100, listener=listener)
            waiting = {tp for tp in waiting if (self._consumer.position(tp) or 0) < end[tp]}
        await self._apply()
        for tp in tps:
            listener.finished(tp)

    async def follow(self) -> None:
        """Keep the tables up to date until cancelled."""
        while self._consumer is not None:
            await self._space.enough()
            try:
                await self._poll(self._next.keys(), timeout_ms=500, listener=None)
                await self._apply()
            except (BrokerUnavailableError, MissingTopicError, OffsetOutOfRangeError) as error:
                log.warning("global tables stand still: %s", error)
                await self._clock.sleep(1)
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Stop reading and close the stores."""
        self._updates.close()
        if self._consumer is not None:
            await self._consumer.close()
            self._consumer = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    async def _poll(
        self, wanted: Collection[TopicPartition], *, timeout_ms: int, listener: RestoreListener | None
    ) -> None:
        assert self._consumer is not None
        polled = await self._consumer.poll(wanted, max_records=POLL_RECORDS, timeout_ms=timeout_ms)
        for tp, batch in polled.items():
            store = self._updates.update(tp, batch)
            self._next[tp] = batch.next_offset
            if listener is not None:
                listener.progressed(tp, len(batch))
            if store.pending_rows >= APPLY_ROWS:
                await self._apply()
            await self._clock.sleep(0)

    async def _apply(self) -> None:
        assert self._engine is not None
        writes = {table: rows for store in self.stores.values() for table, rows in store.pending().items()}
        if writes:
            offsets = {self._offset_name(tp): offset for tp, offset in self._next.items()}
            for _ in self._engine.write_chunks(writes, offsets):
                await self._clock.sleep(0)
            for store in self.stores.values():
                store.applied()

    def _offset_name(self, tp: TopicPartition) -> str:
        return f"{self._specs[tp.topic].name}:{tp.partition}"
