"""The topics of a test driver: lists of rows in memory, in place of a broker. Next: `topology_test_driver`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from streamlib.record import FetchedBatch, Headers, TopicPartition
from streamlib.testing.topics import Row


class OnePartitionEach(Mapping[str, int]):
    """The partition counts of all topics there could be."""

    def __getitem__(self, topic: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Logs:
    """All topics, in memory; implements `record_collector.ProducerInUse` for the task that writes to them.

    Attributes:
        topics: The records of each topic.
        unread: Topic and offset of the records that were written and not yet delivered, in the order of writing.
    """

    def __init__(self) -> None:
        self.topics: defaultdict[str, list[Row]] = defaultdict(list)
        self.unread: list[tuple[str, int]] = []

    @property
    def current(self) -> "Logs":
        """Itself: it never fails."""
        return self

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Write records."""
        rows = list(map(Row, keys, values, timestamps, headers or [()] * len(keys)))
        end = len(self.topics[tp.topic])
        self.topics[tp.topic] += rows
        self.unread += [(tp.topic, offset) for offset in range(end, end + len(rows))]

    def forget_unread(self) -> None:
        """Take back what was written and not yet delivered."""
        unread, self.unread = self.unread, []
        for topic, offset in reversed(unread):
            del self.topics[topic][offset:]

    def fetched(self, topic: str, first: int = 0, end: int | None = None) -> FetchedBatch:
        """The records of a topic from an offset up to another, as a poll gives them."""
        rows = self.topics[topic][first:end]
        end = first + len(rows)
        headers = [row.headers for row in rows]
        return FetchedBatch(
            [row.key for row in rows],
            [row.value for row in rows],
            [row.timestamp_ms for row in rows],
            list(range(first, end)),
            headers if any(headers) else None,
            end,
        )
