"""The hash that tells whether two serialized values are equal: Murmur3 with 128 bits, as Kafka Streams computes it.

Foreign-key joins send the hash of a left row along with its subscription, so that the answer to an older row can be
told from the answer to the current one. Next: `foreign_key_left`.
"""

from collections.abc import Sequence
from functools import lru_cache
from struct import iter_unpack, unpack

_SEED = 104_729
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F
_N1 = 0x52DCE729
_N2 = 0x38495AB5
_F1 = 0xFF51AFD7ED558CCD
_F2 = 0xC4CEB9FE1A85EC53
_MASK = 0xFFFF_FFFF_FFFF_FFFF
_BLOCK = 16

# Values of about one length are hashed together, several times as fast as one by one: integers as vectors.
_FEWEST_PER_LENGTH = 16
_LANES_STEP = 32


def hash128(data: bytes) -> bytes:
    """The hash of ``data``: the high and the low half, big-endian, as subscriptions carry them.

    Source: `org.apache.kafka.streams.state.internals.Murmur3.hash128`.
    """
    h1 = h2 = _SEED
    whole = len(data) & ~15
    for k1, k2 in iter_unpack("<QQ", data[:whole]):
        mixed = k1 * _C1 & _MASK
        h1 ^= ((mixed << 31 | mixed >> 33) & _MASK) * _C2 & _MASK
        h1 = ((h1 << 27 | h1 >> 37) + h2 & _MASK) * 5 + _N1 & _MASK
        mixed = k2 * _C2 & _MASK
        h2 ^= ((mixed << 33 | mixed >> 31) & _MASK) * _C1 & _MASK
        h2 = ((h2 << 31 | h2 >> 33) + h1 & _MASK) * 5 + _N2 & _MASK
    if whole != len(data):
        k1, k2 = unpack("<QQ", data[whole:].ljust(_BLOCK, b"\0"))
        mixed = k2 * _C2 & _MASK
        h2 ^= ((mixed << 33 | mixed >> 31) & _MASK) * _C1 & _MASK
        mixed = k1 * _C1 & _MASK
        h1 ^= ((mixed << 31 | mixed >> 33) & _MASK) * _C2 & _MASK
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = h1 + h2 & _MASK
    h2 = h1 + h2 & _MASK
    h1 = _finished(h1)
    h2 = _finished(h2)
    h1 = h1 + h2 & _MASK
    h2 = h1 + h2 & _MASK
    return (h1 << 64 | h2).to_bytes(_BLOCK, "big")


def hash128_many(column: Sequence[bytes | None]) -> list[bytes | None]:
    """The hash of each value; None stays None."""
    by_blocks: dict[int, list[int]] = {}
    for row, data in enumerate(column):
        if data is not None:
            by_blocks.setdefault(len(data) // _BLOCK, []).append(row)
    hashes: list[bytes | None] = [None] * len(column)
    for blocks, rows in by_blocks.items():
        group: list[bytes] = [column[row] for row in rows]  # type: ignore[misc]
        together = len(rows) >= _FEWEST_PER_LENGTH
        for row, hashed in zip(rows, _vector(group, blocks) if together else map(hash128, group), strict=True):
            hashes[row] = hashed
    return hashes


def _finished(h: int) -> int:
    h = (h ^ h >> 33) * _F1 & _MASK
    h = (h ^ h >> 33) * _F2 & _MASK
    return h ^ h >> 33


def _vector(group: list[bytes], blocks: int) -> list[bytes]:
    """The hashes of values with the same number of whole blocks.

    The same word of all values is one integer, in two halves, so that every word has 128 bits of room: a product of
    two words does not reach the next lane, and what a shift brings over from there is masked away. A last block that
    is filled up with zeros mixes in nothing where there are no bytes, so it is the same for all lengths.
    """
    width = (blocks + 1) * _BLOCK
    words = memoryview(b"".join([data.ljust(width, b"\0") for data in group])).cast("Q")
    stride = width // 8
    count = (len(group) // 2 // _LANES_STEP + 1) * _LANES_STEP
    low = _lanes(count, _MASK)
    columns = [int.from_bytes(words[word::stride].tobytes(), "little") for word in range(stride)]
    lengths = int.from_bytes(b"".join([len(data).to_bytes(8, "little") for data in group]), "little")
    hashes: list[list[bytes]] = []
    for shift in (0, 64):
        halves = _half([column >> shift & low for column in columns], lengths >> shift & low, count)
        lanes = unpack("16s" * count, halves.to_bytes(count * _BLOCK, "big"))
        hashes.append(list(reversed(lanes)))
    even, odd = hashes
    return [hashed for pair in zip(even, odd, strict=True) for hashed in pair][: len(group)]


def _half(columns: list[int], lengths: int, count: int) -> int:
    """Both halves of the hashes of every second value: 128 bits for each."""
    low = _lanes(count, _MASK)
    h1 = h2 = _lanes(count, _SEED)
    n1, n2 = _lanes(count, _N1), _lanes(count, _N2)
    last = len(columns) - 2
    for word in range(0, last + 2, 2):
        mixed = columns[word] * _C1 & low
        h1 ^= _rotated(mixed, 31, low) * _C2 & low
        if word < last:
            h1 = ((_rotated(h1, 27, low) + h2 & low) * 5 + n1) & low
        mixed = columns[word + 1] * _C2 & low
        h2 ^= _rotated(mixed, 33, low) * _C1 & low
        if word < last:
            h2 = ((_rotated(h2, 31, low) + h1 & low) * 5 + n2) & low
    h1 ^= lengths
    h2 ^= lengths
    h1 = h1 + h2 & low
    h2 = h1 + h2 & low
    h1 = _finished_lanes(h1, low)
    h2 = _finished_lanes(h2, low)
    h1 = h1 + h2 & low
    h2 = h1 + h2 & low
    return h1 << 64 | h2


def _rotated(column: int, bits: int, low: int) -> int:
    return (column << bits | column >> 64 - bits) & low


def _finished_lanes(h: int, low: int) -> int:
    h = (h ^ h >> 33 & low) * _F1 & low
    h = (h ^ h >> 33 & low) * _F2 & low
    return h ^ h >> 33 & low


@lru_cache(maxsize=256)
def _lanes(count: int, word: int) -> int:
    """The same word in every lane."""
    return int.from_bytes(word.to_bytes(_BLOCK, "little") * count, "little")
