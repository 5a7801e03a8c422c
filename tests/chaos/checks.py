"""What came out against what follows from the input's formula: a check for each topic.

It takes the records of its topic in the order of each partition; a key is in one partition only. Memory for each
record: a few bits.
"""

import struct
from array import array
from dataclasses import dataclass, fields
from typing import Protocol
from zlib import crc32

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
    TICK,
    WINDOW_MS,
    Load,
)
from tests.chaos.topology import STORES

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
        mixed: How often somebody wrote for a task after others had taken it over.
    """

    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    wrong: int = 0
    mixed: int = 0

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
    """Each task's ticks are 1, 2, 3, ..., and so are those of each of its owners, which come one after the other.

    An owner is one start of the task in one process: a process that has lost a task and got it back is another one.
    Only one task writes ticks with a key, so what an owner has committed is one run of them: once somebody else has
    committed, none of it may follow. Later starts of a process have higher numbers.
    """

    def __init__(self) -> None:
        self.findings = Findings()
        self.last: dict[bytes, bytes] = {}
        self._starts: dict[tuple[bytes, int], int] = {}  # the last one of each key and process

    def take(self, key: bytes, value: bytes | None) -> None:
        """The next record."""
        found = self.findings
        if value is None or len(value) != TICK.size:
            found.wrong += 1
            return
        newest, *owner_before, made_before = TICK.unpack(self.last.get(key, bytes(TICK.size)))
        count, process, start, made = TICK.unpack(value)
        self.last[key] = value
        found.duplicated += count <= newest
        found.wrong += count > newest + 1
        if [process, start] == owner_before:
            found.wrong += made != made_before + 1
            return
        found.wrong += made != 1
        found.mixed += start <= self._starts.get((key, process), 0)
        self._starts[key, process] = max(start, self._starts.get((key, process), 0))

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
        "other-ticks": Ticks(),
    }
    for store in STORES:
        sinks[f"{store}-changelog"] = Changelog(sinks[store])  # type: ignore[arg-type]
    return sinks
