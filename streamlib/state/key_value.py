"""Key-value stores: the latest value of each key, with the timestamp of its last update.

Next: `window`, the same by key and window; `cache`, which saves most of the calls to either.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from streamlib.record import Headers
from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.one_table import OneTableStore
from streamlib.state.timestamped import TimestampedRows, timestamped

V = TypeVar("V")


class KeyValueTimestampedStore(OneTableStore, Generic[V]):
    """A `TimestampedStore` in the engine's table of the same name.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        cache_bytes: Memory for clean rows.

    Attributes:
        keeps_all: Whether a row is there as it was put until it is put again.

    Source: Kafka's ``RocksDBTimestampedStore`` and ``ChangeLoggingTimestampedKeyValueBytesStore``.
    """

    keeps_all = True

    def __init__(
        self,
        name: str,
        value_serde: Serde[V],
        engine: Engine,
        changelog: ChangelogWriter | None = None,
        *,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__(name, engine, cache_bytes)
        self._changelog = changelog
        self._format = TimestampedRows(name, value_serde)
        self._open()

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and timestamp (ms) of a row."""
        return self.get_many([key])[0]

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Rows, in the order of ``keys``.

        Raises:
            StateStoreError: The engine cannot read.
            DeserializationError: The value serde refuses a row.
        """
        return self._format.decode_many(keys, self._table.get_many(keys))

    def put_many(
        self,
        keys: list[bytes],
        values: list[V | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Write rows to the overlay and log them, with headers if any, in order; None deletes.

        Raises:
            SerdeError: The value serde refuses a value; nothing was written.
        """
        self.put_serialized(keys, self._format.encode_many(keys, values), timestamps, headers)

    def put_serialized(
        self,
        keys: list[bytes],
        plain: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """The same for values that are bytes already, as the value serde writes them."""
        self._table.rows.update(zip(keys, timestamped(plain, timestamps), strict=True))
        if self._changelog is not None:
            self._changelog.append(keys, plain, timestamps, headers)

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Rows with ``start <= key < end`` as (key, value, timestamp) in key order, as of this moment."""
        return self._format.decoded(self._table.scan(start, end, reverse=reverse))

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging them again."""
        self._table.rows.update(zip(keys, timestamped(values, timestamps), strict=True))
