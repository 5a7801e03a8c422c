"""The topics of a test: `TestInputTopic` to write to, `TestOutputTopic` to read from, `TestRecord`, what they carry.

Next: `topology_test_driver`, which makes them.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, NamedTuple, TypeVar

from streamlib.record import Headers
from streamlib.serdes.base import Serde
from streamlib.testing.text_tables import formatted, parsed
from streamlib.topology.windows import to_ms

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class TestRecord(Generic[K, V]):
    """One record.

    Attributes:
        key: None for no key.
        value: None for a tombstone.
        timestamp_ms: Milliseconds since the epoch; on the way in None means the topic's time.
        headers: In order; names may repeat.
    """

    __test__ = False

    key: K | None
    value: V | None
    timestamp_ms: int | None = None
    headers: Headers = ()


Piped = Callable[[str, bytes | None, bytes | None, int, Headers], None]
"""Topic, key, value, timestamp, headers: processed to the end before it returns."""


class TestInputTopic(Generic[K, V]):
    """A topic that a test writes to; made by `TopologyTestDriver.create_input_topic`.

    A record without a time gets the topic's own, which starts at ``start_ms`` and then moves on by ``advance`` for each
    such record.
    """

    __test__ = False

    def __init__(
        self,
        topic: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        pipe: Piped,
        *,
        start_ms: int,
        advance: timedelta,
    ) -> None:
        self.topic = topic
        self._key_serde, self._value_serde = key_serde, value_serde
        self._pipe = pipe
        self._now_ms = start_ms
        self._advance_ms = to_ms(advance)

    def pipe_input(
        self, key: K | None, value: V | None, timestamp_ms: int | None = None, headers: Headers = ()
    ) -> None:
        """Process one record, and everything that follows from it.

        Raises:
            StreamlibError: What a worker would stop with.
            ValueError: A negative timestamp, which no producer writes.
        """
        if timestamp_ms is None:
            timestamp_ms = self._now_ms
            self._now_ms += self._advance_ms
        elif timestamp_ms < 0:
            msg = f"a record's timestamp cannot be negative: {timestamp_ms}"
            raise ValueError(msg)
        key_bytes = None if key is None else self._key_serde.serialize(key)
        value_bytes = None if value is None else self._value_serde.serialize(value)
        self._pipe(self.topic, key_bytes, value_bytes, timestamp_ms, headers)

    def pipe_value(self, value: V | None, timestamp_ms: int | None = None) -> None:
        """Process a record without a key."""
        self.pipe_input(None, value, timestamp_ms)

    def pipe_record(self, record: TestRecord[K, V]) -> None:
        """Process a record with its time and headers."""
        self.pipe_input(record.key, record.value, record.timestamp_ms, record.headers)

    def pipe_key_values(
        self,
        pairs: Iterable[tuple[K | None, V | None]],
        *,
        start_ms: int | None = None,
        advance: timedelta = timedelta(),
    ) -> None:
        """Process (key, value) pairs one after the other.

        Args:
            pairs: The records.
            start_ms: Time of the first one; None for the topic's own times.
            advance: Time between two.
        """
        for number, (key, value) in enumerate(pairs):
            self.pipe_input(key, value, None if start_ms is None else start_ms + number * to_ms(advance))

    def pipe_values(
        self, values: Iterable[V | None], *, start_ms: int | None = None, advance: timedelta = timedelta()
    ) -> None:
        """The same for records without keys."""
        self.pipe_key_values([(None, value) for value in values], start_ms=start_ms, advance=advance)

    def pipe_table(self, table: str) -> None:
        """Process the rows of a text table, one after the other.

        Args:
            table: Columns ``key``, ``value`` and ``time``, separated by ``|``; see `text_tables.parsed`. Without a time
                a record gets the topic's own.

        Raises:
            ValueError: It is no such table.
        """
        for row in parsed(table):
            self.pipe_input(row.key, row.value, row.time_ms)

    def pipe_raw(self, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()) -> None:
        """Process a record of bytes, whatever the serdes are: how a test shows what bad input does."""
        self._pipe(self.topic, key, value, timestamp_ms, headers)

    def advance_time(self, by: timedelta) -> None:
        """Move the topic's own time on."""
        self._now_ms += to_ms(by)


class Row(NamedTuple):
    """A record as a topic has it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers = ()


class TestOutputTopic(Generic[K, V]):
    """A topic that a test reads; made by `TopologyTestDriver.create_output_topic`.

    Each record can be read once, in the order of writing.
    """

    __test__ = False

    def __init__(self, topic: str, key_serde: Serde[K], value_serde: Serde[V], queue: deque[Row]) -> None:
        self.topic = topic
        self._key_serde, self._value_serde = key_serde, value_serde
        self._queue = queue

    def is_empty(self) -> bool:
        """Whether everything was read."""
        return not self._queue

    @property
    def queue_size(self) -> int:
        """How many records can be read."""
        return len(self._queue)

    def read_record(self) -> TestRecord[K, V]:
        """The next record, with its time and headers.

        Raises:
            LookupError: There is none.
        """
        if not self._queue:
            msg = f'the topic "{self.topic}" has no more records'
            raise LookupError(msg)
        row = self._queue.popleft()
        key = None if row.key is None else self._key_serde.deserialize(row.key)
        value = None if row.value is None else self._value_serde.deserialize(row.value)
        return TestRecord(key, value, row.timestamp_ms, tuple(row.headers))

    def read_key_value(self) -> tuple[K | None, V | None]:
        """Key and value of the next record. Raises as `read_record`."""
        record = self.read_record()
        return record.key, record.value

    def read_value(self) -> V | None:
        """Value of the next record. Raises as `read_record`."""
        return self.read_record().value

    def read_records_to_list(self) -> list[TestRecord[K, V]]:
        """All records that were not read yet."""
        return [self.read_record() for _ in range(len(self._queue))]

    def read_key_values_to_list(self) -> list[tuple[K | None, V | None]]:
        """Key and value of each."""
        return [(record.key, record.value) for record in self.read_records_to_list()]

    def read_key_values_to_map(self) -> dict[K, V | None]:
        """The last value of each key.

        Raises:
            ValueError: A record has no key.
        """
        found: dict[K, V | None] = {}
        for record in self.read_records_to_list():
            if record.key is None:
                msg = f'a record of the topic "{self.topic}" has no key: read a list instead'
                raise ValueError(msg)
            found[record.key] = record.value
        return found

    def read_table(self) -> str:
        """All records that were not read yet as an aligned text table: compare it with `table` of what you expect."""
        return formatted((record.key, record.value, record.timestamp_ms) for record in self.read_records_to_list())

    def read_values_to_list(self) -> list[V | None]:
        """The value of each."""
        return [record.value for record in self.read_records_to_list()]


def table(text: str) -> str:
    """A text table with its columns aligned, as `TestOutputTopic.read_table` gives it.

    Raises:
        ValueError: It is no table; see `text_tables.parsed`.
    """
    return formatted(parsed(text))
