"""The consumer of the port: aiokafka's client, fetcher and group coordinator, put together without its consumer class.

Next: `columns`, which reads the records; `membership`, which talks to the group.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

import aiokafka.errors as kafka
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from streamlib.errors import MissingTopicError, OffsetOutOfRangeError, TransportError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.transport.base import GroupOptions, IsolationLevel, OffsetAndMetadata
from streamlib.transport.kafka.client import Connection, KafkaClient, caller_of
from streamlib.transport.kafka.client_defaults import (
    AUTO_OFFSET_RESET,
    CHECK_CRCS,
    FETCH_MAX_BYTES,
    MAX_PARTITION_FETCH_BYTES,
)
from streamlib.transport.kafka.columns import ColumnFetcher
from streamlib.transport.kafka.membership import Membership
from streamlib.transport.kafka.metadata import EARLIEST, LATEST, list_offsets
from streamlib.transport.kafka.translation import translate

logger = logging.getLogger(__name__)

UNHEARD_S = 30.0


class KafkaConsumer:
    """Reads partitions of a Kafka cluster as columns.

    Args:
        connection: How to reach the cluster.
        group: The group to join, or None to read what `assign` says.
        isolation: Whether records of open and aborted transactions are seen.
    """

    def __init__(self, connection: Connection, group: GroupOptions | None, isolation: IsolationLevel) -> None:
        self._connection = connection
        self._caller = caller_of(connection)
        self._group = group
        self._isolation = isolation
        self._to_assign: dict[TopicPartition, int] = {}
        self._client: KafkaClient | None = None
        self._subscriptions: Any = None
        self._fetcher: ColumnFetcher | None = None
        self._membership: Membership | None = None
        self._assigned: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Connect, and begin to join the group if there is one.

        Raises:
            BrokerUnavailableError: Nobody answers.
            ConfigError: A broker refuses our credentials.
        """
        client = KafkaClient(self._connection)
        await client.start()
        self._client = client
        self._subscriptions = SubscriptionState()
        self._fetcher = ColumnFetcher(
            client,
            self._subscriptions,
            fetch_max_bytes=FETCH_MAX_BYTES,
            max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
            check_crcs=CHECK_CRCS,
            auto_offset_reset=AUTO_OFFSET_RESET,
            isolation_level=self._isolation,
        )
        if self._group is not None:
            self._membership = Membership(client, self._subscriptions, self._group)
        elif self._to_assign:
            self.assign(self._to_assign)

    async def close(self) -> None:
        """Leave the group and disconnect; the listener is not called. Takes a few seconds if no broker answers."""
        if self._membership is not None:
            await self._membership.close()
        if self._fetcher is not None:
            await self._fetcher.close()
        if self._client is not None:
            await self._client.close()
        self._membership, self._fetcher, self._client = None, None, None

    def subscribe(self, topics: frozenset[str]) -> None:
        """As a member: read these topics from now on; the group rebalances."""
        self._member().subscribe(topics)

    def rejoin(self) -> None:
        """As a member: have the group decide again soon."""
        self._member().rejoin()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Without a group: read exactly these partitions, from these offsets."""
        if self._group is not None:
            msg = f"a member of the group {self._group.group_id} reads what the group gives it: assign() is for others"
            raise TransportError(msg)
        self._to_assign = dict(positions)
        if self._client is None:
            return
        self._subscriptions.assign_from_user([KafkaTopicPartition(*tp) for tp in positions])
        self._client.set_topics({tp.topic for tp in positions})
        for tp, offset in positions.items():
            self.seek(tp, offset)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read ``tp`` from ``offset`` on; prefetched records are dropped. Ignored when ``tp`` is not assigned."""
        if self._fetcher is not None and self._subscriptions.is_assigned(tp):
            if self._client is not None and self.position(tp) == offset:  # who reads the same again trusts nothing
                self._client.force_metadata_update()
            self._fetcher.seek_to(tp, offset)

    def position(self, tp: TopicPartition) -> int | None:
        """The next offset to be returned, None before the first seek or when ``tp`` is not assigned."""
        state = self._state(tp)
        return state.position if state is not None and state.has_valid_position else None

    def lag(self, tp: TopicPartition) -> int | None:
        """How many records are known to lie after the position, up to the last stable offset if read_committed.

        That there are none counts as known for half a minute: a broker that answers tells so many times a second.
        """
        state = self._state(tp)
        if state is None or not state.has_valid_position:
            return None
        end = state.lso if self._isolation == "read_committed" else state.highwater
        if end is None:
            return None
        lag = max(0, end - state.position)
        return None if not lag and time.time() - state.timestamp / 1000 > UNHEARD_S else lag

    async def poll(
        self, wanted: Collection[TopicPartition], *, max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, FetchedBatch]:
        """Columns of some of the ``wanted`` partitions; while the group rebalances or no broker answers, nothing.

        Raises:
            OffsetOutOfRangeError: A position lies outside the log.
            MissingTopicError: A wanted topic was deleted.
            TransportError: The group does not work, a permission is missing, or a batch is corrupt.
        """
        fetcher = self._started()
        if self._membership is not None:
            self._membership.check()
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        await asyncio.sleep(0)  # where polls always find something, fetches and heartbeats get their turn here
        polling = self._subscriptions.fetch_context()
        polling.__enter__()
        try:
            if not await self._wait_for_assignment(deadline):
                return {}
            readable = frozenset(tp for tp in wanted if self._subscriptions.is_assigned(tp))
            self._check_topics(fetcher, readable)
            left_s = max(0.0, deadline - asyncio.get_running_loop().time())
            if not readable:
                await asyncio.sleep(left_s)
                return {}
            return await fetcher.fetch_columns(readable, left_s, max_records)
        except kafka.OffsetOutOfRangeError as error:
            await self._raise_out_of_range(error)
            return {}
        except kafka.KafkaError as error:
            raise translate(error, "cannot read", self._caller, "Read") from error
        finally:
            polling.__exit__(None, None, None)  # told of an error, it would count this poll as going on for ever

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's stable committed offsets: waits while a transaction is pending on them (KIP-447).

        Raises:
            BrokerUnavailableError: No answer in a minute, or a transaction stays open for longer.
        """
        return await self._member().committed(tps) if tps else {}

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets under the generation that the listener was last told of.

        Raises:
            CommitError: The group has moved on; the caller's tasks belong to someone else.
        """
        if offsets:
            await self._member().commit(offsets)

    def _state(self, tp: TopicPartition) -> Any:
        if self._fetcher is None or not self._subscriptions.is_assigned(tp):
            return None
        return self._subscriptions.subscription.assignment.state_value(tp)

    def _started(self) -> ColumnFetcher:
        if self._fetcher is None:
            msg = "this consumer is not started, or closed already"
            raise TransportError(msg)
        return self._fetcher

    def _member(self) -> Membership:
        self._started()
        if self._membership is None:
            msg = "this consumer has no group: only a member of one can commit, or ask for committed offsets"
            raise TransportError(msg)
        return self._membership

    async def _wait_for_assignment(self, deadline: float) -> bool:
        """Whether a rebalance, if there is one, ended before the deadline; aiokafka would wait without end."""
        while self._subscriptions.reassignment_in_progress:
            if self._assigned is None or self._assigned.done():
                self._assigned = self._subscriptions.wait_for_assignment()
            left_s = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait([self._assigned], timeout=max(0.0, left_s))
            if not done:
                return False
            if (error := self._assigned.exception()) is not None:
                if self._membership is not None:
                    self._membership.check()  # knows the cause
                raise translate(error, "cannot join the consumer group", self._caller) from error
        return True

    def _check_topics(self, fetcher: ColumnFetcher, tps: Collection[TopicPartition]) -> None:
        deleted = fetcher.deleted_topics()
        for tp in tps:
            if tp.topic in deleted:
                msg = f"topic={tp.topic} does not exist any more. Create it again, or take it out of the topology"
                raise MissingTopicError(msg)

    async def _raise_out_of_range(self, error: kafka.OffsetOutOfRangeError) -> None:
        """Raise our error with the log's bounds, unless the caller has sought elsewhere in the meantime."""
        ((tp, offset),) = error.args[0].items()
        if self.position(tp) != offset:
            return
        bounds = "its bounds are unknown at the moment"
        assert self._client is not None
        try:
            start = await list_offsets(self._client, {tp: EARLIEST}, timeout_s=5.0)
            end = await list_offsets(self._client, {tp: LATEST}, timeout_s=5.0)
            bounds = f"it holds offsets {start[tp]} to {end[tp]}"
            if offset < start[tp]:
                bounds += f", so {start[tp] - offset} are lost to retention"
        except TransportError as failure:
            logger.warning("cannot look up the bounds of %s: %s", tp, failure)
        msg = f"topic={tp.topic} partition={tp.partition} offset={offset} lies outside the log: {bounds}"
        raise OffsetOutOfRangeError(msg) from error
