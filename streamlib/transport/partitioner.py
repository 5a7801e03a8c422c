"""Which partition a key goes to: Kafka's default partitioner, for columns of keys.

Kafka and streamlib applications must agree on it, or a table and a stream of one key end up in different tasks.

Next: `runtime/record_collector`, which cuts a column into one column for each partition.
"""

from collections.abc import Sequence
from struct import iter_unpack

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF
_GENERATION_SIZE = 131_072


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
    return (murmur2(key) & 0x7FFFFFFF) % partitions


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

    It remembers the partitions of up to 262,144 keys for each width of topics: hashing a key in Python costs about as
    much as all else a record goes through on its way out.
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
        known = self._by_width.get(partitions)
        if known is None:
            known = self._by_width[partitions] = _Partitions(partitions)
        if None not in keys:
            return list(map(known.__getitem__, keys))  # type: ignore[arg-type]
        turn = self._turns.get(topic, 0)
        self._turns[topic] = turn + 1
        sticky = turn % partitions
        return [sticky if key is None else known[key] for key in keys]
