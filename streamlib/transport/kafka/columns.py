"""Whole columns of records instead of one object per message: aiokafka's fetcher, read straight from record batches.

aiokafka keeps the prefetching, the positions and the checks on rebalances; only the last step is ours: right after it
has stored a fetch response, the `getall` of each new result is replaced on the instance by that of a `ColumnReader`.
About three times as many records per CPU second as message objects.

With `client`, `membership` and `sending` one of the four modules that use aiokafka's private names. Next: `consumer`.
"""

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import dropwhile, islice
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException, KafkaError

from streamlib.record import FetchedBatch, Headers, TopicPartition

LEADERLESS_PAUSE_S = 0.5
MAX_WAIT_MS = 100
"""How long a broker holds back an answer without records; a seek may have to wait for that answer."""
BUSY_WAIT_MS = 10
"""The same while other partitions have records left to hand out, so that they are fetched again soon after."""
MISSES_UNTIL_DELETED = 3


class ColumnReader:
    """Reads one fetch result by columns, keeping its place inside a record batch between polls."""

    __slots__ = ("_batch", "_records", "_result")

    def __init__(self, result: FetchResult) -> None:
        # A reference back would keep the whole response until the garbage collector comes by, which is hours for a
        # worker that makes few objects. aiokafka has one: an iterator that is for message objects.
        self._result = weakref.ref(result)
        result._partition_records._records_iterator = None
        self._batch: Any = None
        self._records: Iterator[Any] = iter(())

    def getall(self, max_records: int) -> FetchedBatch:
        """The next records, at most ``max_records``; none if the partition was sought or taken away meanwhile.

        Raises:
            CorruptRecordException: A batch does not match its checksum; the position stays before it.
        """
        result = self._result()
        assert result is not None, "it is the result that calls"
        found = FetchedBatch([], [], [], [], None, -1)
        if result._partition_records is None or not result.check_assignment(result._topic_partition):
            return found
        source, headers = result._partition_records, dict[int, Headers]()
        try:
            while len(found) < max_records:
                if self._batch is None and not self._open_batch(source):
                    result._partition_records = None
                    break
                before = len(found)
                self._fill(found, headers, max_records - before)
                if len(found) < max_records:  # the batch is done; what follows its records counts as read, too
                    source.next_fetch_offset = max(source.next_fetch_offset, self._batch.next_offset)
                    self._batch = None
                else:
                    source.next_fetch_offset = found.offsets[-1] + 1
        except CorruptRecordException:
            result._partition_records = None  # fetched again from the last position handed out
            raise
        found.next_offset = source.next_fetch_offset
        if headers:
            found.headers = [headers.get(row, ()) for row in range(len(found))]
        result._assignment.state_value(result._topic_partition).consumed_to(found.next_offset)
        return found

    def _fill(self, found: FetchedBatch, headers: dict[int, Headers], limit: int) -> None:
        offset, timestamp = found.offsets.append, found.timestamps.append
        key, value = found.keys.append, found.values.append
        for record in islice(self._records, limit):
            offset(record.offset)
            timestamp(record.timestamp)
            key(record.key)
            value(record.value)
            if record.headers:
                headers[len(found) - 1] = tuple(record.headers)

    def _open_batch(self, source: Any) -> bool:
        """Go to the next batch with records to show: neither aborted nor a transaction marker."""
        while source._records.has_next():
            batch = source._records.next_batch()
            if source._check_crcs and not batch.validate_crc():
                msg = f"a batch of {source._tp} does not match its checksum"
                raise CorruptRecordException(msg)
            aborted = self._aborted(source, batch)
            if aborted or batch.is_control_batch:
                source.next_fetch_offset = batch.next_offset
                continue
            first = source.next_fetch_offset
            self._batch, self._records = batch, islice(batch, None)  # a batch can be iterated over once only
            if batch.base_offset < first:  # positions may lie inside a batch
                self._records = _from_offset(first, self._records)
            return True
        return False

    @staticmethod
    def _aborted(source: Any, batch: Any) -> bool:
        """Whether a batch belongs to an aborted transaction; keeps track of which producers are in one."""
        if source._isolation_level != READ_COMMITTED or batch.producer_id is None:
            return False
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch:
            if source._contains_abort_marker(batch):
                source._aborted_producers.discard(batch.producer_id)
            return False
        return batch.is_transactional and batch.producer_id in source._aborted_producers


def _from_offset(first: int, records: Iterator[Any]) -> Iterator[Any]:
    return dropwhile(lambda record: record.offset < first, records)


class _Positioned:
    """The partitions of an assignment that may be fetched, in the form `Fetcher` asks for."""

    def __init__(self, assignment: Any, tps: list[Any]) -> None:
        self.tps = tps
        self.state_value = assignment.state_value


class ColumnFetcher(Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher, which returns columns and reads only where it was told to.

    A partition without a position waits for a seek: it is never reset, and does not hold up the others.
    """

    def __init__(self, client: Any, subscriptions: Any, **settings: Any) -> None:
        self._misses: Counter[str] = Counter()
        self._leaderless_at = 0.0
        self._wanted: frozenset[TopicPartition] = frozenset()
        super().__init__(client, subscriptions, **settings)
        client.cluster.add_listener(self._note_missing_topics)

    async def fetch_columns(
        self, wanted: frozenset[TopicPartition], timeout_s: float, max_records: int
    ) -> dict[TopicPartition, FetchedBatch]:
        """What has been fetched of ``wanted``, after ``timeout_s`` at the latest.

        Raises:
            KafkaError: A position lies outside the log, a permission is missing, or a batch is corrupt; or what fetches
                has ended by an unexpected error: nothing would ever come again.
        """
        if self._fetch_task.done():
            await self._fetch_task
        self._wanted = wanted
        found = await self.fetched_records(wanted, timeout_s, max_records=max_records)
        for tp in found:
            if tp in self._records:  # it had its turn
                self._records.move_to_end(tp)
        return {TopicPartition(*tp): batch for tp, batch in found.items()}

    async def close(self) -> None:
        """End what fetches; whether it had ended by an error does not matter any more."""
        with suppress(KafkaError):
            await super().close()
        for left in self._pending_tasks:
            left.cancel()
        await asyncio.gather(*self._pending_tasks, return_exceptions=True)

    def deleted_topics(self) -> set[str]:
        """Assigned topics that the last few metadata answers did not have."""
        return {topic for topic, misses in self._misses.items() if misses >= MISSES_UNTIL_DELETED}

    def _note_missing_topics(self, cluster: Any) -> None:
        for topic in {tp.topic for tp in self._subscriptions.assigned_partitions()} | set(self._misses):
            if cluster.partitions_for_topic(topic) is None:
                self._misses[topic] += 1
            else:
                self._misses.pop(topic, None)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        positioned = [tp for tp in assignment.tps if assignment.state_value(tp).has_valid_position]
        now = self._loop.time()
        if now < self._leaderless_at:  # asking for their metadata again at once would be a busy loop
            positioned = [tp for tp in positioned if self._has_leader(tp)]
        elif not all(self._has_leader(tp) for tp in positioned):
            self._leaderless_at = now + LEADERLESS_PAUSE_S
        busy = any(tp in self._wanted and type(result) is FetchResult for tp, result in self._records.items())
        self._fetch_max_wait_ms = BUSY_WAIT_MS if busy else MAX_WAIT_MS
        return super()._get_actions_per_node(_Positioned(assignment, positioned))

    def _has_leader(self, tp: TopicPartition) -> bool:
        return self._client.cluster.leader_for_partition(tp) not in {None, -1}

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        fetched: bool = await super()._proc_fetch_request(assignment, node_id, request)
        for result in self._records.values():  # no await since aiokafka stored them
            if type(result) is FetchResult and "getall" not in vars(result):
                result.getall = ColumnReader(result).getall
        return fetched
