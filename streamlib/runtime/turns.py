"""Runs of several inputs in the order in which a task takes them, with one batch for each input.

The records of all runs are numbered, and their numbers stand where offsets do: so an operator that is fed the batches
one after the other can put their rows back in order, and an error finds the record that it came from.
Next: `operators/join_in_turns`, which does so.
"""

from collections.abc import Sequence

from streamlib.record import RecordBatch, TopicPartition
from streamlib.runtime.record_queue import RecordQueue


class Turns:
    """Runs that were claimed, and are taken by this.

    Args:
        runs: Queue and length of each, in order.

    Attributes:
        batches: For each queue that has a turn all its rows, with their offsets.
        length: Rows of all.
    """

    def __init__(self, runs: Sequence[tuple[RecordQueue, int]]) -> None:
        self._runs = runs
        queues = dict.fromkeys(queue for queue, _ in runs)
        self.batches: list[tuple[RecordQueue, RecordBatch]] = [(queue, queue.take_claimed()) for queue in queues]
        self.length = sum(len(batch) for _, batch in self.batches)

    def numbered(self) -> list[tuple[RecordQueue, RecordBatch]]:
        """The same with numbers in place of offsets, ascending from 0 over all runs."""
        numbers: dict[RecordQueue, list[int]] = {queue: [] for queue, _ in self.batches}
        number = 0
        for queue, length in self._runs:
            numbers[queue].extend(range(number, number + length))
            number += length
        return [
            (queue, RecordBatch(batch.keys, batch.values, batch.timestamps, numbers[queue], batch.headers))
            for queue, batch in self.batches
        ]

    def origin(self, number: int) -> tuple[TopicPartition, int]:
        """Where a record came from, and its offset there."""
        before = {queue.tp: 0 for queue, _ in self.batches}
        for queue, length in self._runs:
            if number < length:
                offsets = next(batch.offsets for other, batch in self.batches if other is queue)
                assert offsets is not None, "records of an input have offsets"
                return queue.tp, offsets[before[queue.tp] + number]
            number -= length
            before[queue.tp] += length
        raise IndexError(number)
