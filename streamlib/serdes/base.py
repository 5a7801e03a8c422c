"""A serde turns one column of objects into bytes and back. Next: the modules beside this one are the serdes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def any_none(column: Sequence[Any]) -> bool:
    """Whether a column holds a None; never calls ``__eq__`` of the objects in it, as ``None in column`` would.

    The loop takes half the time of anything that is made of C functions.
    """
    for each in column:  # noqa: SIM110
        if each is None:
            return True
    return False


@dataclass(frozen=True)
class Serde(Generic[T]):
    """Bytes to objects and objects to bytes, for the keys or the values of a topic.

    None never reaches the two functions: a missing key or a tombstone stays None.

    Attributes:
        name: How the serde is called in messages, e.g. ``json[Order]``.
        serialize: One object to bytes; may raise anything, which is reported as a `SerdeError` with its place.
        deserialize: Bytes to one object; may raise anything, which is reported as a `DeserializationError`.
        immutable: Whether the objects can never be changed in place (str, int, bytes...).
        partition_bytes: For a column of serialized keys, the bytes that choose the partition: a windowed key goes
            where its plain key goes (WindowedStreamPartitioner). None: all bytes of the key.
    """

    name: str
    serialize: Callable[[T], bytes]
    deserialize: Callable[[bytes], T]
    immutable: bool = False
    partition_bytes: Callable[[list[bytes | None]], list[bytes | None]] | None = None

    def serialize_many(self, values: list[T | None]) -> list[bytes | None]:
        """The bytes of a column; None stays None."""
        if any_none(values):
            serialize = self.serialize
            return [None if value is None else serialize(value) for value in values]
        return list(map(self.serialize, values))  # type: ignore[arg-type]

    def deserialize_many(self, data: list[bytes | None]) -> list[T | None]:
        """The objects of a column; None stays None."""
        if any_none(data):
            deserialize = self.deserialize
            return [None if raw is None else deserialize(raw) for raw in data]
        return list(map(self.deserialize, data))  # type: ignore[arg-type]

    def with_bytes(self, values: list[T | None], data: list[bytes | None]) -> list[T | None]:
        """A column of which the bytes are known, for `serialize_many` to give them back, if the serde can keep them."""
        return values

    def cut(self, values: list[T | None], first: int, last: int) -> list[T | None]:
        """Rows of a column, with the bytes that `deserialize_many` has kept, if it has made the column."""
        return values[first:last]

    def __repr__(self) -> str:
        return f"Serde({self.name})"


AnySerde = Serde[Any]
