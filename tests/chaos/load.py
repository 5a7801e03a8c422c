"""The input as a formula: each record follows from its number, so nobody has to keep any to know what is right.

Record ``n`` goes to partition ``n % PARTITIONS``. A partition's records come in rounds; in each round every key of the
partition appears once, in an order of its own. So a key's records are its rounds 0, 1, 2, ..., and a key and a round
name one record. Event time moves on by a fixed step from one record of a partition to the next.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from struct import Struct
from zlib import crc32

PARTITIONS = 6
KEYS = 101  # of each partition: a prime, so that every factor makes an order of them
STEP_MS = 10
ROUND_MS = KEYS * STEP_MS
WINDOW_ROUNDS = 20
WINDOW_MS = WINDOW_ROUNDS * ROUND_MS
JOIN_MS = ROUND_MS  # either way: a record meets its own round, and those beside it if they are near enough
GRACE_MS = 600_000

KEY_BYTES = [b"key-%04d" % number for number in range(PARTITIONS * KEYS)]
"""Every key by its number: its partition, plus as many times `PARTITIONS` as its rank among the partition's keys."""

OTHER_BYTES = [b"other-%02d" % number for number in range(97)]
"""The keys that the stream is repartitioned by."""

RECORD = Struct(">QIQI")  # number, amount, other key, CRC of these and the key
COUNTED = Struct(">QQI")  # count, number of the last record, CRC of all numbers in their order
SUMMED = Struct(">QQ")  # count, sum of amounts
GATHERED = Struct(">QQQ")  # count, sum of amounts, sum of numbers
PAIR = Struct(">QQ")  # number on the left, number on the right
NUMBER = Struct(">Q")
TICK = Struct(">QQII")  # count of the task; process, start of the task in it, count since then: who has written it
_CHECKED = Struct(">QIQ")
_MASK = (1 << 64) - 1


def recently() -> int:
    """An event time to begin with: now, or not long ago, at the start of a window."""
    return int(time.time() * 1000) // WINDOW_MS * WINDOW_MS


def mixed(number: int) -> int:
    """A number that looks random (splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def record(number: int, amount: int, other: int, key: bytes) -> bytes:
    """A value with its CRC."""
    return RECORD.pack(number, amount, other, crc32(key, crc32(_CHECKED.pack(number, amount, other))))


@dataclass(frozen=True)
class Load:
    """All input of a run.

    Args:
        seed: Makes another input.
        records: How many records the left topic gets.
        start_ms: Event time of the first record of each partition: a multiple of `WINDOW_MS`, and not long ago, since
            Kafka deletes what is older than a window changelog's retention.
    """

    seed: int
    records: int
    start_ms: int

    @cached_property
    def _order(self) -> Callable[[int, int], tuple[int, int]]:
        """Factor and start of the order of keys, by partition and round."""

        @lru_cache(maxsize=1 << 16)
        def order(partition: int, round_: int) -> tuple[int, int]:
            chance = mixed(self.seed << 40 ^ round_ << 8 ^ partition)
            return chance % (KEYS - 1) + 1, (chance >> 32) % KEYS

        return order

    def round_of(self, number: int) -> int:
        """How often the record's key has come before."""
        return number // PARTITIONS // KEYS

    def key_number(self, number: int) -> int:
        """Of a record."""
        place, partition = divmod(number, PARTITIONS)
        round_, place = divmod(place, KEYS)
        factor, start = self._order(partition, round_)
        return partition + PARTITIONS * ((factor * place + start) % KEYS)

    def number_of(self, key_number: int, round_: int) -> int:
        """The record with this key and round; it may lie behind the end of the input."""
        rank, partition = divmod(key_number, PARTITIONS)
        factor, start = self._order(partition, round_)
        place = (rank - start) * pow(factor, -1, KEYS) % KEYS
        return (round_ * KEYS + place) * PARTITIONS + partition

    def rounds(self, key_number: int) -> int:
        """How many records a key has."""
        whole = self.records // (PARTITIONS * KEYS)
        return whole + (self.number_of(key_number, whole) < self.records)

    def time_ms(self, number: int) -> int:
        """Event time of a record."""
        return self.start_ms + number // PARTITIONS * STEP_MS

    def window_of(self, number: int) -> int:
        """Which window, counted from 0, a record is in."""
        return self.round_of(number) // WINDOW_ROUNDS

    def amount(self, number: int) -> int:
        """What is summed."""
        return mixed(self.seed << 32 ^ number) % 1000

    def other(self, number: int) -> int:
        """The number of the key that the record is repartitioned by."""
        return mixed(self.seed << 32 ^ number << 1 ^ 1) % len(OTHER_BYTES)

    def value(self, number: int) -> bytes:
        """The record's bytes."""
        return record(number, self.amount(number), self.other(number), KEY_BYTES[self.key_number(number)])

    def on_the_right(self, number: int) -> bool:
        """Whether the right topic has this record as well."""
        return mixed(self.seed << 32 ^ number << 2 ^ 2) % 4 == 0

    def meet(self, left: int, right: int) -> bool:
        """Whether the join has this pair; both numbers are inside the input."""
        near = abs(left // PARTITIONS - right // PARTITIONS) * STEP_MS <= JOIN_MS
        return near and self.key_number(left) == self.key_number(right) and self.on_the_right(right)

    def partners(self, right: int) -> Iterator[int]:
        """The left records of the pairs of a record on the right."""
        key_number, round_ = self.key_number(right), self.round_of(right)
        for each in range(max(0, round_ - 1), round_ + 2):
            left = self.number_of(key_number, each)
            if left < self.records and abs(left // PARTITIONS - right // PARTITIONS) * STEP_MS <= JOIN_MS:
                yield left
