"""Where a task's output leaves it: columns are serialized, spread over partitions and appended to the producer.

Serialization, partitioning and buffering work on whole columns; nothing is awaited here. The producer's errors surface
at the next commit. Next: `commit`, which waits until everything appended is acknowledged.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from streamlib.errors import MissingTopicError, ProcessingError, SerdeError
from streamlib.metrics import Metrics
from streamlib.operators.selection import picked
from streamlib.record import Headers, RecordBatch, TopicPartition
from streamlib.serdes.base import AnySerde
from streamlib.topology.nodes import Partitioner, Sink
from streamlib.transport.base import Appends
from streamlib.transport.partitioner import Partitioner as KeyPartitioner


class ProducerInUse(Protocol):
    """Where the live producer is found: `ProducerHolder`, or a driver of tests."""

    @property
    def current(self) -> Appends:
        """The live producer."""


Columns = tuple[list[bytes | None], list[bytes | None], list[int], list[Headers]]


class RecordCollector:
    """Writes the batches of sinks. One for all tasks of a worker: they share the producer and the partitioner.

    Args:
        producer: Where the bytes go.
        counts: Partition counts of topics by their names on the broker; topics found later are added to it.
        physical: A topic's name on the broker for its name in the plan.
        metrics: The worker's counters.
    """

    def __init__(
        self, producer: ProducerInUse, counts: Mapping[str, int], physical: Callable[[str], str], metrics: Metrics
    ) -> None:
        self._producer = producer
        self._counts = counts
        self._physical = physical
        self._metrics = metrics
        self._by_key = KeyPartitioner()

    def send(self, sink: Sink, batch: RecordBatch) -> None:
        """Serialize, partition and buffer a batch for the sink's topic.

        Raises:
            SerdeError: A key or value does not fit the sink's serde.
            MissingTopicError: The topic does not exist.
            ProcessingError: The sink's partitioner raised, or chose a partition that does not exist.
            DeliveryError: A record is too large, or an earlier delivery failed.
        """
        keys = serialized(sink.key_serde, batch.keys, batch, sink, "key")
        values = serialized(sink.value_serde, batch.values, batch, sink, "value")
        if sink.topic is not None:
            self._append(sink, self._physical(sink.topic), batch, keys, values)
            return
        assert sink.topic_fn is not None
        rows_of: dict[str, list[int]] = {}
        for row, topic in enumerate(map(sink.topic_fn, batch.keys, batch.values)):
            rows_of.setdefault(topic, []).append(row)
        for topic, rows in rows_of.items():
            part = picked(batch, rows)
            self._append(sink, topic, part, [keys[row] for row in rows], [values[row] for row in rows])

    def _append(
        self, sink: Sink, topic: str, batch: RecordBatch, keys: list[bytes | None], values: list[bytes | None]
    ) -> None:
        count = self._counts.get(topic)
        if count is None:
            msg = f'the sink topic "{topic}" does not exist: node={sink.name}. Create it before records reach it.'
            raise MissingTopicError(msg)
        producer = self._producer.current
        if count == 1 and sink.partitioner is None:
            producer.append(TopicPartition(topic, 0), keys, values, batch.timestamps, batch.headers)
            return
        if sink.partitioner is not None:
            rows, partitions = self._chosen(sink.partitioner, sink.name, topic, batch, keys, count)
            if rows is not None:
                batch = picked(batch, rows)
                keys, values = [keys[row] for row in rows], [values[row] for row in rows]
            if not partitions:
                return
        else:
            hashed = sink.key_serde.partition_bytes
            partitions = self._by_key.partitions(topic, keys if hashed is None else hashed(keys), count)
        for partition, columns in spread(partitions, count, keys, values, batch):
            producer.append(TopicPartition(topic, partition), *columns[:3], columns[3] or None)

    def _chosen(
        self, choose: Partitioner, node: str, topic: str, batch: RecordBatch, keys: list[bytes | None], count: int
    ) -> tuple[list[int] | None, list[int]]:
        """Where a partitioner sends rows: partitions, each with its row; no rows when each has one partition.

        Raises:
            ProcessingError: The partitioner raised, or chose a partition that does not exist.
        """
        chosen: list[Any] = []
        try:
            for key, value in zip(batch.keys, batch.values, strict=True):
                chosen.append(choose(key, value, count))
        except Exception as error:
            offset = "unknown" if batch.offsets is None else batch.offsets[len(chosen)]
            msg = f"the partitioner raised {error!r}: node={node} topic={topic} input offset={offset}"
            raise ProcessingError(msg) from error
        if None in chosen:
            by_key = self._by_key.partitions(topic, keys, count)
            chosen = [by_key[row] if to is None else to for row, to in enumerate(chosen)]
        rows: list[int] | None = None
        if not all(type(to) is int for to in chosen):
            several = [dict.fromkeys(to) if isinstance(to, Collection) else (to,) for to in chosen]
            if dropped := sum(not to for to in several):
                self._metrics.dropped(node, "no-partition", dropped)
            rows = [row for row, to in enumerate(several) for _ in to]
            chosen = [partition for to in several for partition in to]
        wrong = [to for to in chosen if not isinstance(to, int) or not 0 <= to < count]
        if wrong:
            msg = f"the partitioner chose partition {wrong[0]!r} of {count}: node={node} topic={topic}"
            raise ProcessingError(msg)
        return rows, chosen


def spread(
    partitions: list[int], count: int, keys: list[bytes | None], values: list[bytes | None], batch: RecordBatch
) -> list[tuple[int, Columns]]:
    """The columns of each partition that gets rows, in row order."""
    first = partitions[0]
    if partitions.count(first) == len(partitions):  # of a stream that kept its keys, say
        return [(first, (keys, values, batch.timestamps, list(batch.headers or ())))]
    columns: list[Columns] = [([], [], [], []) for _ in range(count)]
    adders = [(c[0].append, c[1].append, c[2].append) for c in columns]
    for partition, key, value, timestamp in zip(partitions, keys, values, batch.timestamps, strict=True):
        add_key, add_value, add_timestamp = adders[partition]
        add_key(key)
        add_value(value)
        add_timestamp(timestamp)
    if batch.headers is not None:
        for partition, headers in zip(partitions, batch.headers, strict=True):
            columns[partition][3].append(headers)
    return [(partition, c) for partition, c in enumerate(columns) if c[0]]


def serialized(serde: AnySerde, column: list[Any], batch: RecordBatch, sink: Sink, part: str) -> list[bytes | None]:
    """The bytes of a column.

    Raises:
        SerdeError: Names the node, the offset and the type of the first value that does not fit.
    """
    try:
        return serde.serialize_many(column)
    except Exception as error:
        for row, value in enumerate(column):
            try:
                if value is not None:
                    serde.serialize(value)
            except Exception as cause:
                offset = "unknown" if batch.offsets is None else batch.offsets[row]
                msg = (
                    f"the {part} serde {serde.name} cannot write a {type(value).__name__}: {cause}: "
                    f"node={sink.name} topic={sink.topic} input offset={offset}. "
                    f"Give .to() the {part}_serde that fits, or map the {part} before it."
                )
                raise SerdeError(msg) from cause
        raise SerdeError(f"the {part} serde {serde.name} failed: node={sink.name}: {error}") from error


class ChangelogTopicWriter:
    """A store's changelog partition; implements `state.base.ChangelogWriter`."""

    def __init__(self, producer: ProducerInUse, tp: TopicPartition) -> None:
        self._producer = producer
        self.tp = tp

    def append(
        self,
        keys: list[bytes],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Log updates in order."""
        self._producer.current.append(self.tp, keys, values, timestamps, headers)
