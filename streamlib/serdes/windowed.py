"""Serdes for `Windowed` keys, as Kafka Streams writes them to topics.

Such a record goes to the partition of its plain key, so that all windows of a key stay together
(WindowedStreamPartitioner). Next: `changed`, for repartition topics of tables.
"""

from dataclasses import dataclass
from datetime import timedelta
from operator import add, attrgetter
from struct import Struct
from typing import Any, Generic, TypeVar

from streamlib.record import MAX_TIME_MS, Windowed
from streamlib.serdes.base import Serde, any_none

K = TypeVar("K")
START = Struct(">q")
END_START = Struct(">qq")
_key_of, _start_of, _end_of = attrgetter("key"), attrgetter("start"), attrgetter("end")


@dataclass(frozen=True, repr=False, kw_only=True)
class TimeWindowed(Serde[Windowed[K]], Generic[K]):
    """``key | start int64``; the end is not written but known from the size."""

    inner: Serde[K]
    size_ms: int

    def serialize_many(self, values: list[Windowed[K] | None]) -> list[bytes | None]:
        """The bytes of a column; None stays None."""
        if any_none(values):
            return super().serialize_many(values)
        keys = self.inner.serialize_many(list(map(_key_of, values)))
        return list(map(add, keys, map(START.pack, map(_start_of, values))))

    def deserialize_many(self, data: list[bytes | None]) -> list[Windowed[K] | None]:
        """The keys of a column; None stays None."""
        if any_none(data):
            return super().deserialize_many(data)
        keys: list[Any] = self.inner.deserialize_many([raw[:-8] for raw in data])  # type: ignore[index]
        unpack, size_ms = START.unpack, self.size_ms
        starts = [unpack(raw[-8:])[0] for raw in data]  # type: ignore[index]
        return [
            Windowed(key, start, min(start + size_ms, MAX_TIME_MS)) for key, start in zip(keys, starts, strict=True)
        ]


@dataclass(frozen=True, repr=False, kw_only=True)
class SessionWindowed(Serde[Windowed[K]], Generic[K]):
    """``key | end int64 | start int64``; the end is inclusive."""

    inner: Serde[K]

    def serialize_many(self, values: list[Windowed[K] | None]) -> list[bytes | None]:
        """The bytes of a column; None stays None."""
        if any_none(values):
            return super().serialize_many(values)
        keys = self.inner.serialize_many(list(map(_key_of, values)))
        return list(map(add, keys, map(END_START.pack, map(_end_of, values), map(_start_of, values))))


def time_windowed(inner: Serde[K], size: timedelta | None) -> TimeWindowed[K]:
    """The serde for keys of tumbling, hopping, sliding and unlimited windows.

    Args:
        inner: Of the plain key.
        size: The size of the windows; of sliding windows the time difference, after which they end inclusively; None
            for unlimited windows.
    """
    return time_windowed_ms(inner, MAX_TIME_MS if size is None else size // timedelta(milliseconds=1))


def time_windowed_ms(inner: Serde[K], size_ms: int) -> TimeWindowed[K]:
    """`time_windowed` with the size in ms; `MAX_TIME_MS` for unlimited windows."""
    encode, decode, pack, unpack = inner.serialize, inner.deserialize, START.pack, START.unpack

    def serialize(value: Windowed[K]) -> bytes:
        return encode(value.key) + pack(value.start)

    def deserialize(data: bytes) -> Windowed[K]:
        (start,) = unpack(data[-8:])
        return Windowed(decode(data[:-8]), start, min(start + size_ms, MAX_TIME_MS))

    return TimeWindowed(
        f"time_windowed[{inner.name}]",
        serialize,
        deserialize,
        inner.immutable,
        partition_bytes=lambda keys: [None if key is None else key[:-8] for key in keys],
        inner=inner,
        size_ms=size_ms,
    )


def session_windowed(inner: Serde[K]) -> SessionWindowed[K]:
    """The serde for keys of session windows."""
    encode, decode, pack, unpack = inner.serialize, inner.deserialize, END_START.pack, END_START.unpack

    def serialize(value: Windowed[K]) -> bytes:
        return encode(value.key) + pack(value.end, value.start)

    def deserialize(data: bytes) -> Windowed[K]:
        end, start = unpack(data[-16:])
        return Windowed(decode(data[:-16]), start, end)

    return SessionWindowed(
        f"session_windowed[{inner.name}]",
        serialize,
        deserialize,
        inner.immutable,
        partition_bytes=lambda keys: [None if key is None else key[:-16] for key in keys],
        inner=inner,
    )
