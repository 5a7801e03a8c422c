"""What came out, read as anybody would read it, against what follows from the input's formula.

Reads with a plain client and shares nothing with the library but the names of topics. Memory for each record: a few
bits. A check takes the records of its topic in the order of each partition; a key is in one partition only.
"""

import logging
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol
from zlib import crc32

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.chaos.load import (
    COUNTED,
    GATHERED,
    KEY_BYTES,
    NUMBER,
    OTHER_BYTES,
    PAIR,
    PARTITIONS,
    RECORD,
    SUMMED,
    WINDOW_MS,
    Load,
)
from tests.chaos.topology import STORES, topic

log = logging.getLogger(__name__)

KEY_NUMBERS = {key: number for number, key in enumerate(KEY_BYTES)}
OTHER_NUMBERS = {key: number for number, key in enumerate(OTHER_BYTES)}
START = struct.Struct(">q")
SEQUENCE_BYTES = 4  # at the end of the keys of a window store's changelog


@dataclass
class Findings:
    """What is wrong with one topic.

    Attributes:
        rows: How many records it has.
        lost: Records and pairs of which there is no result at all.
        duplicated: Results that are there once more.
        out_of_order: Results of a key that come after later ones of that key.
        wrong: Results that no correct run has.
    """

    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    wrong: int = 0

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class Bits:
    """A set of numbers below a limit."""

    def __init__(self, limit: int) -> None:
        self._bytes = bytearray(limit // 8 + 1)
        self.count = 0

    def add(self, number: int) -> bool:
        """Whether it is new."""
        place, bit = number >> 3, 1 << (number & 7)
        if self._bytes[place] & bit:
            return False
        self._bytes[place] |= bit
        self.count += 1
        return True


class Check(Protocol):
    """Judges one topic."""

    findings: Findings

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record of a partition."""

    def finish(self) -> None:
        """All records were taken."""


class Records:
    """Each record once, unchanged, those of a key in the order of the partition they come from.

    Args:
        load: The input.
        by_other: Whether they have gone through the repartition topic, and so have the other key.
    """

    def __init__(self, load: Load, by_other: bool) -> None:
        self.findings = Findings()
        self._load = load
        self._by_other = by_other
        self._seen = Bits(load.records)
        self._newest = array("q", [-1]) * max(len(KEY_BYTES), len(OTHER_BYTES) * PARTITIONS)

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        found, load = self.findings, self._load
        number = RECORD.unpack(value)[0] if value is not None and len(value) == RECORD.size else load.records
        if number >= load.records or value != load.value(number):
            found.wrong += 1
            return
        if self._by_other:
            other = load.other(number)
            flow, right_key = other * PARTITIONS + number % PARTITIONS, OTHER_BYTES[other]
        else:
            flow = load.key_number(number)
            right_key = KEY_BYTES[flow]
        if key != right_key:
            found.wrong += 1
        elif not self._seen.add(number):
            found.duplicated += 1
        else:
            found.out_of_order += number < self._newest[flow]
            self._newest[flow] = max(number, self._newest[flow])

    def finish(self) -> None:
        """Count what is not there."""
        self.findings.lost = self._load.records - self._seen.count


class Counts:
    """For each record the count of its key at that time: 1, 2, 3, ... and a CRC of all the key's numbers so far."""

    def __init__(self, load: Load) -> None:
        self.findings = Findings()
        self.last: dict[bytes, bytes] = {}
        self._load = load
        self._seen = Bits(load.records)
        self._newest = array("q", [-1]) * len(KEY_BYTES)
        self._chained = array("q", [0]) * len(KEY_BYTES)  # how many rounds are in the chain
        self._chains = array("L", [0]) * len(KEY_BYTES)

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        found, load, key_number = self.findings, self._load, KEY_NUMBERS.get(key)
        if key_number is None or value is None or len(value) != COUNTED.size:
            found.wrong += 1
            return
        self.last[key] = value
        count, number, chain = COUNTED.unpack(value)
        if number >= load.records or load.key_number(number) != key_number:
            found.wrong += 1
            return
        round_ = load.round_of(number)
        if not self._seen.add(number):
            found.duplicated += 1
            found.wrong += count != round_ + 1
            return
        found.out_of_order += round_ < self._newest[key_number]
        self._newest[key_number] = max(round_, self._newest[key_number])
        if round_ >= self._chained[key_number]:
            found.wrong += count != round_ + 1 or chain != self._chain(key_number, round_ + 1)
        else:
            found.wrong += count != round_ + 1

    def finish(self) -> None:
        """Count what is not there."""
        self.findings.lost = self._load.records - self._seen.count

    def _chain(self, key_number: int, rounds: int) -> int:
        chain = self._chains[key_number]
        for round_ in range(self._chained[key_number], rounds):
            chain = crc32(NUMBER.pack(self._load.number_of(key_number, round_)), chain)
        self._chains[key_number], self._chained[key_number] = chain, rounds
        return chain


class Sums:
    """The last result of each key and window is the right one."""

    def __init__(self, load: Load) -> None:
        self.findings = Findings()
        self.last: dict[bytes, bytes] = {}
        self._load = load

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        if value is None or len(value) != SUMMED.size:
            self.findings.wrong += 1
        else:
            self.last[key] = value

    def finish(self) -> None:
        """Compute all windows, and compare."""
        load, found = self._load, self.findings
        windows = load.window_of(load.records - 1) + 1
        counts = array("q", [0]) * (windows * len(KEY_BYTES))
        totals = array("q", counts)
        for number in range(load.records):
            place = load.window_of(number) * len(KEY_BYTES) + load.key_number(number)
            counts[place] += 1
            totals[place] += load.amount(number)
        for place, count in enumerate(counts):
            window, key_number = divmod(place, len(KEY_BYTES))
            key = KEY_BYTES[key_number] + START.pack(load.start_ms + window * WINDOW_MS)
            held, total = SUMMED.unpack(self.last.get(key, bytes(SUMMED.size)))
            found.wrong += (held, total) != (count, totals[place])
        found.wrong += max(0, len(self.last) - sum(count > 0 for count in counts))


class Gathered:
    """Behind the repartition topic: counts of each other key are 1, 2, 3, ... and the last sums are right."""

    def __init__(self, load: Load) -> None:
        self.findings = Findings()
        self.last: dict[bytes, bytes] = {}
        self._load = load
        self._newest = [(0, 0, 0)] * len(OTHER_BYTES)

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        found, number = self.findings, OTHER_NUMBERS.get(key)
        if number is None or value is None or len(value) != GATHERED.size:
            found.wrong += 1
            return
        self.last[key] = value
        row, newest = GATHERED.unpack(value), self._newest[number]
        self._newest[number] = row
        if row[0] <= newest[0]:
            found.duplicated += 1
        else:
            found.wrong += row[0] > newest[0] + 1

    def finish(self) -> None:
        """Compute the last result of each key, and compare."""
        load, found = self._load, self.findings
        right = [[0, 0, 0] for _ in OTHER_BYTES]
        for number in range(load.records):
            row = right[load.other(number)]
            row[0] += 1
            row[1] += load.amount(number)
            row[2] += number
        found.wrong += sum(tuple(row) != held for row, held in zip(right, self._newest, strict=True))


class Pairs:
    """Each pair once."""

    def __init__(self, load: Load) -> None:
        self.findings = Findings()
        self._load = load
        self._seen = Bits(load.records * 3)

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        found, load = self.findings, self._load
        left, right = PAIR.unpack(value) if value is not None and len(value) == PAIR.size else (load.records, 0)
        if max(left, right) >= load.records or not load.meet(left, right) or key != KEY_BYTES[load.key_number(left)]:
            found.wrong += 1
        elif not self._seen.add(right * 3 + load.round_of(left) - load.round_of(right) + 1):
            found.duplicated += 1

    def finish(self) -> None:
        """Count what is not there."""
        load = self._load
        rights = (number for number in range(load.records) if load.on_the_right(number))
        self.findings.lost = sum(1 for right in rights for _ in load.partners(right)) - self._seen.count


class Ticks:
    """Each task's ticks are 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.last: dict[bytes, bytes] = {}

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        found, newest = self.findings, NUMBER.unpack(self.last.get(key, bytes(NUMBER.size)))[0]
        if value is None or len(value) != NUMBER.size:
            found.wrong += 1
            return
        self.last[key] = value
        count = NUMBER.unpack(value)[0]
        found.duplicated += count <= newest
        found.wrong += count > newest + 1

    def finish(self) -> None:
        """There is no more to say: how many ticks there must be is not known."""


class Changelog:
    """The newest row of each key in a store's changelog is the last result of that key."""

    def __init__(self, sink: Counts | Sums | Gathered | Ticks) -> None:
        self.findings = Findings()
        self._sink = sink
        self._last: dict[bytes, bytes] = {}
        self._behind_key = -SEQUENCE_BYTES if isinstance(sink, Sums) else None

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        key = key[: self._behind_key]
        if value is None:
            self._last.pop(key, None)
        else:
            self._last[key] = value

    def finish(self) -> None:
        """Compare."""
        for key in self._last.keys() | self._sink.last.keys():
            self.findings.wrong += self._last.get(key) != self._sink.last.get(key)


def checks(load: Load) -> dict[str, Check]:
    """The check of each topic, by the end of its name, in the order in which to read them."""
    sinks: dict[str, Check] = {
        "forwarded": Records(load, by_other=False),
        "counts": Counts(load),
        "sums": Sums(load),
        "repartitioned": Records(load, by_other=True),
        "gathered": Gathered(load),
        "pairs": Pairs(load),
        "ticks": Ticks(),
    }
    for store in STORES:
        sinks[f"{store}-changelog"] = Changelog(sinks[store])  # type: ignore[arg-type]
    return sinks


async def verified(broker: str, application: str, load: Load) -> dict[str, Findings]:
    """What is wrong with each sink and changelog, by the end of its name."""
    found = {}
    for name, check in checks(load).items():
        await _read(broker, topic(application, name), check)
        check.finish()
        found[name] = check.findings
        log.info("%s: %s", name, check.findings)
    return found


async def _read(broker: str, name: str, check: Check) -> None:
    """Give a check every committed record of a topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(name, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(tps)
        consumer.assign(tps)
        left = {tp for tp in tps if ends[tp] > 0}
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=200, max_records=20_000)).values():
                check.findings.rows += len(records)
                for record in records:
                    check.take(record.key, record.value)
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()


async def open_transactions(broker: str, partitions: Mapping[str, int]) -> int:
    """How many partitions hold records that are neither committed nor aborted.

    Args:
        broker: Its address.
        partitions: Partition counts of the topics to look at.
    """
    tps = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
    ends = []
    for level in ("read_committed", "read_uncommitted"):
        consumer = AIOKafkaConsumer(bootstrap_servers=broker, isolation_level=level, enable_auto_commit=False)
        await consumer.start()
        try:
            ends.append(await consumer.end_offsets(tps))
        finally:
            await consumer.stop()
    stable, all_ = ends
    return sum(stable[tp] < end for tp, end in all_.items())
