"""The input of every workload: seeded, so that every machine makes the same records, and its right results are known.

A record is one purchase event: key ``u012345`` (the user), value 75 bytes of JSON, event time ascending over ten
minutes. Next: `broker` loads it into topics, `verify` computes what must come out.
"""

import random
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.partitioner import murmur2

PAGES = 10_000
KINDS = ("view", "cart", "paid", "drop")
TIERS = ("none", "blue", "gold", "plus")
START_MS = 1_699_999_980_000  # a whole minute
SPAN_MS = 600_000
MAX_KEYS = 1_000_000  # six digits in a key
MAX_RECORDS = 9_000_000  # seven digits in "seq"


@dataclass
class Columns:
    """Records of one partition as the loader takes them, and where each stood in the whole input."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    positions: Sequence[int] = field(default_factory=lambda: array("l"))

    def between(self, start: int, stop: int) -> "Columns":
        """The records that stand at ``start`` up to ``stop`` (exclusive) in the whole input."""
        first, last = bisect_left(self.positions, start), bisect_left(self.positions, stop)
        return Columns(
            self.keys[first:last], self.values[first:last], self.timestamps[first:last], self.positions[first:last]
        )

    def __len__(self) -> int:
        return len(self.keys)


def user_name(user: int) -> str:
    """The key of a user's number."""
    return f"u{user:06d}"


def page_name(page: int) -> str:
    """The name of a page's number."""
    return f"p{page:04d}"


class Dataset:
    """``records`` random purchase events of ``keys`` users.

    Args:
        records: How many.
        keys: How many users there are; every one is equally likely.
        partitions: Of the topics it will be loaded into; users are spread as Kafka's default partitioner does it.
        seed: The same seed gives the same bytes.

    Attributes:
        users, pages, amounts, kinds: One number a record, from which `verify` works out the expected results.
    """

    def __init__(self, records: int, *, keys: int, partitions: int, seed: int) -> None:
        if not 0 < records <= MAX_RECORDS or not 0 < keys <= MAX_KEYS:
            msg = f"the generator makes up to {MAX_RECORDS} records of up to {MAX_KEYS} keys, not {records} of {keys}"
            raise ValueError(msg)
        self.records = records
        self.keys = keys
        self.partitions = partitions
        source = random.Random(seed)
        self.users = array("l", source.choices(range(keys), k=records))
        self.pages = array("l", source.choices(range(PAGES), k=records))
        self.amounts = array("l", source.choices(range(1_000, 10_000), k=records))
        self.kinds = array("b", source.choices(range(len(KINDS)), k=records))
        self._user_keys = [user_name(user).encode() for user in range(keys)]
        self._user_partitions = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in self._user_keys]

    def timestamp(self, position: int) -> int:
        """Event time of a record, in ms."""
        return START_MS + position * SPAN_MS // self.records

    def value(self, position: int) -> bytes:
        """The JSON of a record."""
        return (
            f'{{"user":"u{self.users[position]:06d}","page":"p{self.pages[position]:04d}",'
            f'"amount":{self.amounts[position]},"seq":{1_000_000 + position},"kind":"{KINDS[self.kinds[position]]}"}}'
        ).encode()

    def stream(self) -> list[Columns]:
        """All records, by partition."""
        parts = [Columns(positions=array("l")) for _ in range(self.partitions)]
        positions: list[list[int]] = [[] for _ in parts]
        for position, user in enumerate(self.users):
            partition = self._user_partitions[user]
            part = parts[partition]
            part.keys.append(self._user_keys[user])
            part.values.append(self.value(position))
            part.timestamps.append(self.timestamp(position))
            positions[partition].append(position)
        for part, ascending in zip(parts, positions, strict=True):
            part.positions = array("l", ascending)
        return parts

    def table(self) -> list[Columns]:
        """One row for every user, older than all records of the stream, by partition."""
        parts = [Columns() for _ in range(self.partitions)]
        for user, key in enumerate(self._user_keys):
            part = parts[self._user_partitions[user]]
            part.keys.append(key)
            part.values.append(f'{{"user":"u{user:06d}","tier":"{tier(user)}"}}'.encode())
            part.timestamps.append(START_MS - 60_000)
        return parts

    def logins(self) -> list[Columns]:
        """One record for every user, at times that are spread over those of the stream, by partition."""
        parts = [Columns() for _ in range(self.partitions)]
        positions: list[list[int]] = [[] for _ in parts]
        for user, key in enumerate(self._user_keys):
            partition, position = self._user_partitions[user], self.login(user)
            part = parts[partition]
            part.keys.append(key)
            part.values.append(f'{{"user":"u{user:06d}","tier":"{tier(user)}"}}'.encode())
            part.timestamps.append(self.timestamp(position))
            positions[partition].append(position)
        for part, ascending in zip(parts, positions, strict=True):
            part.positions = array("l", ascending)
        return parts

    def login(self, user: int) -> int:
        """Where in the stream a user's login stands."""
        return user * self.records // self.keys

    def page_table(self) -> list[Columns]:
        """One row for every page, by partition."""
        parts = [Columns() for _ in range(self.partitions)]
        for page in range(PAGES):
            key = page_name(page).encode()
            part = parts[(murmur2(key) & 0x7FFFFFFF) % self.partitions]
            part.keys.append(key)
            part.values.append(f'{{"user":"{page_name(page)}","tier":"{tier(page)}"}}'.encode())
            part.timestamps.append(START_MS - 60_000)
        return parts


def tier(user: int) -> str:
    """What the table says of a user."""
    return TIERS[user % len(TIERS)]
