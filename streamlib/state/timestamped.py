"""The bytes of a timestamped row: ``timestamp int64 | value`` in the engine, the plain value in the changelog.

Next: `key_value` and `window`, the stores of such rows.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Generic, TypeVar

from streamlib.errors import DeserializationError, SerdeError
from streamlib.serdes.base import Serde

V = TypeVar("V")

TIMESTAMP_BYTES = 8
_TIMESTAMP = Struct(">q")

pack_timestamp = _TIMESTAMP.pack
unpack_timestamp = _TIMESTAMP.unpack_from


class TimestampedRows(Generic[V]):
    """Turns rows of one store into values with timestamps, and back.

    Args:
        store: The store's name, for messages.
        serde: Of the values.

    Source: Kafka's ``ValueAndTimestampSerializer`` and ``RecordConverters``.
    """

    def __init__(self, store: str, serde: Serde[V]) -> None:
        self._store = store
        self._serde = serde

    def decode_many(self, keys: list[bytes], rows: list[bytes | None]) -> list[tuple[V, int] | None]:
        """Values and timestamps of rows; ``keys`` are for messages only.

        Raises:
            DeserializationError: The value serde refuses a row.
        """
        deserialize, unpack = self._serde.deserialize, unpack_timestamp
        try:
            return [None if row is None else (deserialize(row[8:]), unpack(row)[0]) for row in rows]
        except Exception:
            for key, row in zip(keys, rows, strict=True):
                if row is not None:
                    self.decode(key, row)
            raise

    def decode(self, key: bytes, row: bytes) -> tuple[V, int]:
        """Value and timestamp of one row.

        Raises:
            DeserializationError: The value serde refuses it.
        """
        try:
            return self._serde.deserialize(row[TIMESTAMP_BYTES:]), unpack_timestamp(row)[0]
        except Exception as error:
            msg = (
                f"store {self._store!r}: the row with key {key!r} is refused by its value serde {self._serde.name}:"
                f" {error}; a store whose value type changed needs a new name, or a reset of the application"
            )
            raise DeserializationError(msg) from error

    def decoded(self, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, V, int]]:
        """Key, value and timestamp of the rows of a scan. Raises as `decode`."""
        decode = self.decode
        for key, row in rows:
            value, timestamp = decode(key, row)
            yield key, value, timestamp

    def encode_many(self, keys: list[bytes], values: list[V | None]) -> list[bytes | None]:
        """Plain bytes of values, as the changelog has them; ``keys`` are for messages only.

        Raises:
            SerdeError: The value serde refuses a value; nothing was written.
        """
        try:
            return self._serde.serialize_many(values)
        except Exception:
            for key, value in zip(keys, values, strict=True):
                self._encode(key, value)
            raise

    def _encode(self, key: bytes, value: V | None) -> None:
        try:
            if value is not None:
                self._serde.serialize(value)
        except Exception as error:
            msg = (
                f"store {self._store!r}: the value for key {key!r}, a {type(value).__name__}, is refused by its value"
                f" serde {self._serde.name}: {error}; give the store a serde for what the aggregation returns"
            )
            raise SerdeError(msg) from error


def timestamped(values: list[bytes | None], timestamps: list[int]) -> list[bytes | None]:
    """Rows for the engine from plain values and timestamps; None stays None."""
    pack = pack_timestamp
    return [
        None if value is None else pack(timestamp) + value for value, timestamp in zip(values, timestamps, strict=True)
    ]
