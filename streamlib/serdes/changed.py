"""The serde for repartition topics of table aggregations, byte for byte as Java's ChangedSerializer.

The last byte tells what is there: ``old | 0``, ``new | 1``, ``varint(length of new) | new | old | 2`` (KIP-904); 3, 4
and 5 are the same with one more byte before the last, whether the update is the latest of its key. Those are only read.
"""

from streamlib.record import Change
from streamlib.serdes.base import AnySerde, Serde

OLD, NEW, BOTH = 0, 1, 2
WITH_LATEST = 3


def changed(inner: AnySerde) -> Serde[Change]:
    """The serde for `Change` values of which each side has ``inner``."""
    encode, decode = inner.serialize, inner.deserialize

    def serialize(change: Change) -> bytes:
        new, old = change.new, change.old
        if old is None:
            if new is None:
                msg = "a change needs a new or an old value, it has neither"
                raise ValueError(msg)
            return encode(new) + b"\x01"
        if new is None:
            return encode(old) + b"\x00"
        data = encode(new)
        return b"".join((_varint(len(data)), data, encode(old), b"\x02"))

    def deserialize(data: bytes) -> Change:
        flag, end = data[-1], len(data) - 1
        if flag >= WITH_LATEST:
            flag, end = flag - WITH_LATEST, end - 1
        if flag == NEW:
            return Change(decode(data[:end]), None)
        if flag == OLD:
            return Change(None, decode(data[:end]))
        if flag != BOTH:
            msg = f"a change must end with a byte from 0 to 5, not {data[-1]}"
            raise ValueError(msg)
        length, start = _read_varint(data[:end])
        if start + length > end:
            msg = f"a change names {length} bytes of new value, there are {end - start}"
            raise ValueError(msg)
        return Change(decode(data[start : start + length]), decode(data[start + length : end]))

    return Serde(f"changed[{inner.name}]", serialize, deserialize, inner.immutable)


def _varint(number: int) -> bytes:
    """A non-negative number as Kafka's zigzag varint."""
    rest = number << 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _read_varint(data: bytes) -> tuple[int, int]:
    """The number that ``data`` starts with, and where it ends."""
    number = shift = 0
    for position, byte in enumerate(data):
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number >> 1, position + 1
        shift += 7
    msg = "the length in a change never ends"
    raise ValueError(msg)
