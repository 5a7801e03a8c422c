"""Which partition a key goes to: Kafka's default partitioner, for columns of keys.

Kafka and streamlib applications must agree on it, or a table and a stream of one key end up in different tasks.

Next: `runtime/record_collector`, which cuts a column into one column for each partition.
"""

import sys
from collections.abc import Sequence
from functools import lru_cache
from struct import iter_unpack

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_GENERATION_SIZE = 131_072

# Keys of one length are hashed together, many times as fast as one by one: integers as vectors of 64-bit lanes.
_FEWEST_PER_LENGTH = 64
_LANES_STEP = 256


def murmur2(data: bytes) -> int:
    """The 32-bit hash of ``data``, signed as Java's ints are.

    Source: `org.apache.kafka.common.utils.Utils.murmur2`.
    """
    length = len(data)
    hashed = _SEED ^ length
    whole = length & ~3
    for (word,) in iter_unpack("<I", data[:whole]):
        mixed = word * _MULTIPLIER & _MASK
        mixed ^= mixed >> 24
        hashed = (hashed * _MULTIPLIER ^ mixed * _MULTIPLIER) & _MASK
    if whole != length:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    hashed ^= hashed >> 13
    hashed = hashed * _MULTIPLIER & _MASK
    hashed ^= hashed >> 15
    return hashed - 0x1_0000_0000 if hashed & 0x8000_0000 else hashed


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of ``key`` in a topic of that many partitions.

    Source: `org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey`.
    """
    return (murmur2(key) & _POSITIVE) % partitions


def murmur2_many(keys: Sequence[bytes], bits: int = _MASK) -> list[int]:
    """The 32-bit hashes of keys of one length, unsigned, or some ``bits`` of them.

    Each 32-bit word of all keys is one integer, in two halves, so that every word has 64 bits of room: a product of two
    words does not reach the next lane, and what a shift brings over from there is masked away.
    """
    length = len(keys[0])
    words = max(1, (length + 3) // 4)
    padding = bytes(words * 4 - length)
    columns = memoryview(padding.join(keys) + padding).cast("I")
    count = (len(keys) // 2 // _LANES_STEP + 1) * _LANES_STEP
    low = _lanes(count, _MASK)
    halves = [_lanes(count, _SEED ^ length)] * 2
    for word in range(words):
        column = int.from_bytes(columns[word::words].tobytes(), "little")
        for half in (0, 1):
            hashed, mixed = halves[half], (column >> 32 * half) & low
            if word < length // 4:
                mixed = mixed * _MULTIPLIER & low
                mixed ^= (mixed >> 24) & low
                halves[half] = (hashed * _MULTIPLIER ^ mixed * _MULTIPLIER) & low
            elif length:  # the last bytes, less than a word of them
                halves[half] = (hashed ^ mixed) * _MULTIPLIER & low
    for half in (0, 1):
        hashed = halves[half]
        hashed ^= (hashed >> 13) & low
        hashed = hashed * _MULTIPLIER & low
        halves[half] = hashed ^ ((hashed >> 15) & low)
    merged = ((halves[0] | halves[1] << 32) & _lanes(count, bits | bits << 32)).to_bytes(count * 8, "little")
    if bits < 256:
        return list(merged[: len(keys) * 4 : 4])
    return memoryview(merged).cast("I")[: len(keys)].tolist()


def _spread(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partitions of keys of one length."""
    if partitions & (partitions - 1) == 0:  # of a power of two the last bits are the remainder
        return murmur2_many(keys, partitions - 1)
    return [(hashed & _POSITIVE) % partitions for hashed in murmur2_many(keys)]


@lru_cache(maxsize=256)
def _lanes(count: int, word: int) -> int:
    """The same word in every lane."""
    return int.from_bytes(word.to_bytes(8, "little") * count, "little")


class _Partitions(dict[bytes, int]):
    """Partitions by key for topics of one width, computed when first asked for.

    Bounded: when full, it becomes the old generation, and keys still in use move back one by one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width
        self._old: dict[bytes, int] = {}

    def __missing__(self, key: bytes) -> int:
        if len(self) >= _GENERATION_SIZE:
            self._old = dict(self)
            self.clear()
        partition = self._old.get(key)
        if partition is None:
            partition = partition_for(key, self._width)
        self[key] = partition
        return partition


class Partitioner:
    """Maps columns of keys to partitions; one for each producer.

    Long columns are hashed as vectors, a key of 7 bytes in less than 0.1 µs. Of keys in short columns it remembers the
    partitions, up to 262,144 for each width of topics, since hashing one by itself takes more than a microsecond.
    """

    def __init__(self) -> None:
        self._by_width: dict[int, _Partitions] = {}
        self._turns: dict[str, int] = {}

    def partitions(self, topic: str, keys: Sequence[bytes | None], partitions: int) -> list[int]:
        """The partition of each key.

        The records of one column that have no key go to one partition together, and columns take turns: this keeps
        batches large, as Kafka's sticky partitioner does (KIP-480).

        Args:
            topic: Whose turn it is for records without a key is counted by topic.
            keys: Serialized keys, None where a record has none.
            partitions: How many partitions the topic has.
        """
        if partitions == 1:
            return [0] * len(keys)
        if None in keys:
            turn = self._turns.get(topic, 0)
            self._turns[topic] = turn + 1
            sticky = turn % partitions
            given = iter(self._hashed([key for key in keys if key is not None], partitions))
            return [sticky if key is None else next(given) for key in keys]
        return self._hashed(keys, partitions)  # type: ignore[arg-type]

    def _hashed(self, keys: Sequence[bytes], partitions: int) -> list[int]:
        lengths = set(map(len, keys))
        if sys.byteorder != "little" or len(lengths) * _FEWEST_PER_LENGTH > len(keys):
            known = self._by_width.get(partitions)
            if known is None:
                known = self._by_width[partitions] = _Partitions(partitions)
            return list(map(known.__getitem__, keys))
        if len(lengths) == 1:
            return _spread(keys, partitions)
        chosen = [0] * len(keys)
        for length in lengths:
            rows = [row for row, key in enumerate(keys) if len(key) == length]
            for row, partition in zip(rows, _spread([keys[row] for row in rows], partitions), strict=True):
                chosen[row] = partition
        return chosen
