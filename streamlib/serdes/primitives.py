"""Serdes of bytes, text and numbers, byte for byte as Kafka's ByteArray, String, Long and Double serdes write them.

Next: `json_serde`, for everything with a structure.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from streamlib.serdes.base import Serde, any_none

Number = TypeVar("Number", bound=float)


@dataclass(frozen=True, repr=False, kw_only=True)
class FixedWidth(Serde[Number]):
    """A number of 8 bytes; a whole column is packed and unpacked by one call of `struct`.

    Attributes:
        code: The number's format character in `struct`.
    """

    code: str

    def serialize_many(self, values: list[Number | None]) -> list[bytes | None]:
        """The bytes of a column; None stays None."""
        if any_none(values):
            return super().serialize_many(values)
        packed = struct.pack(f">{len(values)}{self.code}", *values)
        return list(struct.unpack("8s" * len(values), packed))

    def deserialize_many(self, data: list[bytes | None]) -> list[Number | None]:
        """The numbers of a column; None stays None."""
        # The width of each is checked, since 7 and 9 bytes side by side would pass for two numbers.
        if any_none(data) or set(map(len, data)) != {8}:  # type: ignore[arg-type]
            return super().deserialize_many(data)
        return list(struct.unpack(f">{len(data)}{self.code}", b"".join(data)))  # type: ignore[arg-type]


@dataclass(frozen=True, repr=False)
class Raw(Serde[bytes]):
    """Bytes as they are: the column itself is the result."""

    def serialize_many(self, values: list[bytes | None]) -> list[bytes | None]:
        """The same column, once everything in it is known to be bytes or None."""
        if set(map(type, values)) <= {bytes, type(None)}:
            return values
        return super().serialize_many(values)

    def deserialize_many(self, data: list[bytes | None]) -> list[bytes | None]:
        """The same column."""
        return data


class TextColumn(list[str | None]):
    """Strings that know their bytes; like every column, never changed.

    Whoever passes on the same column, or cuts it by `Text.cut`, need not encode again; any other list made of it has
    lost the bytes.

    Attributes:
        data: The bytes of each, None where there is none.
        serde: Whose bytes these are.
    """

    __slots__ = ("data", "serde")

    def __init__(self, values: Iterable[str | None], data: list[bytes | None], serde: "Text") -> None:
        super().__init__(values)
        self.data = data
        self.serde = serde


@dataclass(frozen=True, repr=False)
class Text(Serde[str]):
    """UTF-8. A string has one form in it, so what was decoded need not be encoded again.

    That does not hold for a copy with other functions, which keeps no bytes.
    """

    def serialize_many(self, values: list[str | None]) -> list[bytes | None]:
        """The bytes of a column; None stays None."""
        if type(values) is TextColumn and values.serde is self:
            return values.data
        return super().serialize_many(values)

    def deserialize_many(self, data: list[bytes | None]) -> list[str | None]:
        """The strings of a column, with their bytes; None stays None."""
        values = super().deserialize_many(data)
        return TextColumn(values, data, self) if self.deserialize is bytes.decode else values

    def with_bytes(self, values: list[str | None], data: list[bytes | None]) -> list[str | None]:
        """The column with its bytes."""
        return TextColumn(values, data, self)

    def cut(self, values: list[str | None], first: int, last: int) -> list[str | None]:
        """Rows of a column, with their bytes."""
        rows = values[first:last]
        return TextColumn(rows, values.data[first:last], values.serde) if type(values) is TextColumn else rows


def _raw(value: Any) -> bytes:
    if not isinstance(value, bytes):
        msg = (
            f"the serde for raw bytes got {type(value).__name__}: name the serde of these records where they are made "
            "(key_serde=, value_serde=), or a default for the whole topology (StreamsBuilder(default_value_serde=...))"
        )
        raise TypeError(msg)
    return value


def _number(code: str, name: str) -> FixedWidth[Number]:
    layout = struct.Struct(f">{code}")

    def unpack(data: bytes) -> Number:
        number: Number = layout.unpack(data)[0]
        return number

    return FixedWidth(name, layout.pack, unpack, immutable=True, code=code)


BYTES: Serde[bytes] = Raw("bytes", _raw, bytes, immutable=True)
"""Raw bytes, untouched."""

STRING: Serde[str] = Text("string", str.encode, bytes.decode, immutable=True)
"""Text as UTF-8; malformed bytes are refused (Java replaces them with U+FFFD)."""

INT64: Serde[int] = _number("q", "int64")
"""A signed integer of 8 bytes, big-endian: Java's Long. Larger integers are refused."""

FLOAT64: Serde[float] = _number("d", "float64")
"""An IEEE 754 number of 8 bytes, big-endian: Java's Double."""
