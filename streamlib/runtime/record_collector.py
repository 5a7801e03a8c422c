"""Where a task's output leaves it: columns are serialized, spread over partitions and appended to the producer.

Serialization, partitioning and buffering work on whole columns; nothing is awaited here. The producer's errors surface
at the next commit. Next: `commit`, which waits until everything appended is acknowledged.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from streamlib.errors import MissingTopicError, ProcessingError, ProductionError, RecordTooLargeError
from streamlib.metrics import Metrics
from streamlib.operators.base import ErrorHandler
from streamlib.operators.selection import picked
from streamlib.record import Headers, RecordBatch, TopicPartition
from streamlib.runtime.serialization import serialized
from streamlib.topology.nodes import ColumnPartitioner, Partitioner, Sink
from streamlib.transport.base import Appends
from streamlib.transport.partitioner import Partitioner as KeyPartitioner


class ProducerInUse(Protocol):
    """Where the live producer is found: `ProducerHolder`, or a driver of tests."""

    @property
    def current(self) -> Appends:
        """The live producer."""


SHOWN_CHARACTERS = 80

Columns = tuple[list[bytes | None], list[bytes | None], list[int], list[Headers]]


@dataclass(frozen=True)
class Output:
    """A batch on its way to one topic.

    Attributes:
        sink: The node.
        topic: Its name on the broker.
        batch: The rows, as objects.
        errors: Decides about those that cannot be written.
    """

    sink: Sink
    topic: str
    batch: RecordBatch
    errors: ErrorHandler | None


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

    def send(
        self, sink: Sink, batch: RecordBatch, topic: str | None = None, errors: ErrorHandler | None = None
    ) -> None:
        """Serialize, partition and buffer a batch for the sink's topic.

        Args:
            sink: Where it goes.
            batch: What is written.
            topic: Of a sink that names a topic for each record: the one of these.
            errors: Decides about rows that cannot be written; without it they raise.

        Raises:
            SerdeError: A key or value does not fit the sink's serde.
            ProductionError: A record is too large.
            MissingTopicError: The topic does not exist.
            ProcessingError: The sink's partitioner raised, or chose a partition that does not exist.
            DeliveryError: An earlier delivery failed.
        """
        batch, keys, values = serialized(sink, batch, errors)
        if not keys:
            return
        if topic is None:
            assert sink.topic is not None, f"{sink.name} names a topic for each record"
            topic = self._physical(sink.topic)
        self._append(Output(sink, topic, batch, errors), keys, values)

    def write_letter(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers
    ) -> None:
        """Write a dead letter, to that partition or, in a topic with fewer, to another one.

        Raises:
            MissingTopicError: The topic does not exist.
            ProductionError: The letter is too large.
            DeliveryError: An earlier delivery failed.
        """
        count = self._counts.get(topic)
        if count is None:
            msg = f'the dead letter topic "{topic}" does not exist. Create it: streamlib topics create {topic}'
            raise MissingTopicError(msg)
        try:
            tp = TopicPartition(topic, partition % count)
            self._producer.current.append(tp, [key], [value], [timestamp], [headers])
        except RecordTooLargeError as error:
            raise ProductionError(f"a dead letter cannot be written: {error}") from error

    def _append(self, out: "Output", keys: list[bytes | None], values: list[bytes | None]) -> None:
        sink, topic, batch = out.sink, out.topic, out.batch
        count = self._counts.get(topic)
        if count is None:
            msg = f'the sink topic "{topic}" does not exist: node={sink.name}. Create it before records reach it.'
            raise MissingTopicError(msg)
        if count == 1 and sink.partitioner is None:
            self._write(out, 0, (keys, values, batch.timestamps, list(batch.headers or ())), None)
            return
        if sink.partitioner is not None:
            rows, partitions = self._chosen(sink.partitioner, out, keys, count)
            if rows is not None:
                batch = picked(batch, rows)
                out = replace(out, batch=batch)
                keys, values = [keys[row] for row in rows], [values[row] for row in rows]
            if not partitions:
                return
        else:
            hashed = sink.key_serde.partition_bytes
            partitions = self._by_key.partitions(topic, keys if hashed is None else hashed(keys), count)
        for partition, columns in spread(partitions, count, keys, values, batch):
            self._write(out, partition, columns, partitions)

    def _write(self, out: "Output", partition: int, columns: Columns, partitions: list[int] | None) -> None:
        """Append the columns of one partition; a record that is too large is left to the policy, the others follow.

        Args:
            out: The batch that they are of.
            partition: Where they go.
            columns: Their bytes.
            partitions: Where each row of the batch goes; None for all to this one.
        """
        producer, tp, first = self._producer.current, TopicPartition(out.topic, partition), 0
        while True:
            keys, values, timestamps, headers = columns
            try:
                producer.append(tp, keys, values, timestamps, headers or None)
                return
            except RecordTooLargeError as error:
                here = range(len(out.batch)) if partitions is None else [*_rows(partitions, partition)]
                self._too_large(out, here[first + error.row], error)
                rest = error.row + 1
            first += rest
            columns = (keys[rest:], values[rest:], timestamps[rest:], headers[rest:])
            if not columns[0]:
                return

    def _too_large(self, out: "Output", row: int, cause: RecordTooLargeError) -> None:
        offset = "unknown" if out.batch.offsets is None else out.batch.offsets[row]
        key = repr(out.batch.keys[row])
        shown = key if len(key) <= SHOWN_CHARACTERS else f"{key[:SHOWN_CHARACTERS]}..."
        error = ProductionError(
            f"a record cannot be written: node={out.sink.name} key={shown} input offset={offset}: {cause}"
        )
        error.__cause__ = cause
        if out.errors is None:
            raise error from cause
        out.errors.refused(error, out.sink.name, out.batch, row)

    def _chosen(
        self, choose: Partitioner, out: "Output", keys: list[bytes | None], count: int
    ) -> tuple[list[int] | None, list[int]]:
        """Where a partitioner sends rows: partitions, each with its row; no rows when each has one partition.

        Raises:
            ProcessingError: The partitioner raised, or chose a partition that does not exist.
        """
        node, topic = out.sink.name, out.topic
        chosen, failed = self._choices(choose, out, count)
        if None in chosen:
            by_key = self._by_key.partitions(topic, keys, count)
            chosen = [by_key[row] if to is None else to for row, to in enumerate(chosen)]
        rows: list[int] | None = None
        if set(map(type, chosen)) != {int}:
            several = [dict.fromkeys(to) if isinstance(to, Collection) else (to,) for to in chosen]
            if dropped := sum(not to for to in several) - failed:
                self._metrics.dropped(node, "no-partition", dropped)
            rows = [row for row, to in enumerate(several) for _ in to]
            chosen = [partition for to in several for partition in to]
        elif min(chosen) >= 0 and max(chosen) < count:
            return rows, chosen
        wrong = [to for to in chosen if not isinstance(to, int) or not 0 <= to < count]
        if wrong:
            msg = f"the partitioner chose partition {wrong[0]!r} of {count}: node={node} topic={topic}"
            raise ProcessingError(msg)
        return rows, chosen

    def _choices(self, choose: Partitioner, out: "Output", count: int) -> tuple[list[Any], int]:
        """What a partitioner says of each row, and how many rows are left out since it raised. Raises as `_chosen`."""
        batch, node, topic = out.batch, out.sink.name, out.topic
        if isinstance(choose, ColumnPartitioner):
            return choose.partitions(batch.values), 0
        chosen: list[Any] = []
        failed = 0
        for key, value in zip(batch.keys, batch.values, strict=True):
            try:
                chosen.append(choose(key, value, count))
            except Exception as error:
                row = len(chosen)
                offset = None if batch.offsets is None else batch.offsets[row]
                if out.errors is None:
                    msg = f"the partitioner raised {error!r}: node={node} topic={topic} input offset={offset}"
                    raise ProcessingError(msg) from error
                out.errors.failed(error, node, key, value, batch.timestamps[row], offset)
                failed += 1
                chosen.append(())
        return chosen, failed


def _rows(partitions: list[int], partition: int) -> Iterator[int]:
    """The rows that go to a partition."""
    return (row for row, to in enumerate(partitions) if to == partition)


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
        """Log updates in order.

        Raises:
            ProductionError: One is too large; its row is in the store, so no policy can leave it out.
        """
        try:
            self._producer.current.append(self.tp, keys, values, timestamps, headers)
        except RecordTooLargeError as error:
            raise ProductionError(f"a row of a store cannot be logged: {error}") from error
