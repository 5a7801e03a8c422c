"""What each workload must give, worked out from the generator's numbers, and what came out, read from the topic.

A system's output is normalised by its own decoder into keys and values; from there on all are judged alike: by the
last value of each key where a workload emits updates, by count and checksum where it emits records.
Next: `measure`, which asks for a verdict after each run.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from benchmarks.broker import Cluster
from benchmarks.generate import KINDS, Dataset, page_name, tier, user_name

WINDOW_MS = 60_000
SESSION_GAP_MS = 5_000
NO_VALUE = b"0"  # decodes in every form
DROP = KINDS.index("drop")

Decoder = Callable[[bytes, bytes], tuple[Any, Any]]
"""An output record's key and value to: a str key (or ``(str, window start)``), and an int or the JSON object."""


@dataclass(frozen=True)
class Verdict:
    """Whether a run's results are right, and if not, what is wrong with them."""

    ok: bool
    detail: str = ""


@dataclass
class Checksum:
    """Count and order-independent checksum of records."""

    count: int = 0
    total: int = 0

    def add(self, *fields: object) -> None:
        self.count += 1
        self.total += crc32("|".join(map(str, fields)).encode())


def expected(workload: str, data: Dataset, records: int) -> Any:
    """The right results for the first ``records`` of the data: a Checksum, or a dict of final values."""
    if workload in RECORD_FIELDS:
        return _expected_records(workload, data, records)
    if workload == "count":
        return Counter(map(user_name, data.users[:records]))
    if workload == "repartition":
        return Counter(map(page_name, data.pages[:records]))
    if workload == "session":
        return _expected_sessions(data, records)
    if workload == "foreign-key-join":
        return {
            user_name(data.users[position]): _joint(data, position, data.pages[position]) for position in range(records)
        }
    sums: dict[tuple[str, int], int] = {}
    for position in range(records):
        window = data.timestamp(position) // WINDOW_MS * WINDOW_MS
        key = (user_name(data.users[position]), window)
        sums[key] = sums.get(key, 0) + data.amounts[position]
    return sums


def _expected_sessions(data: Dataset, records: int) -> dict[tuple[str, int, int], int]:
    """Records of each session; those of a user come in order."""
    open_: dict[int, tuple[int, int, int]] = {}
    done: dict[tuple[str, int, int], int] = {}
    for position in range(records):
        user, time = data.users[position], data.timestamp(position)
        start, end, count = open_.get(user, (time, time, 0))
        if time - end > SESSION_GAP_MS:
            done[user_name(user), start, end] = count
            start, count = time, 0
        open_[user] = (start, time, count + 1)
    done.update({(user_name(user), start, end): count for user, (start, end, count) in open_.items()})
    return done


def _joint(data: Dataset, position: int, tier_of: int) -> dict[str, Any]:
    user = user_name(data.users[position])
    return {"user": user, "amount": data.amounts[position], "seq": 1_000_000 + position, "tier": tier(tier_of)}


def _expected_records(workload: str, data: Dataset, records: int) -> Checksum:
    checksum = Checksum()
    for position in range(records):
        user = data.users[position]
        name, seq = user_name(user), 1_000_000 + position
        if workload == "table-join" or (workload == "stream-join" and _logged_in(data, position)):
            checksum.add(name, name, data.amounts[position], seq, tier(user))
        elif workload == "stream-join":
            continue
        elif workload == "consume-produce":
            kind = KINDS[data.kinds[position]]
            checksum.add(name, name, page_name(data.pages[position]), data.amounts[position], seq, kind)
        elif data.kinds[position] != DROP:
            checksum.add(name, name, page_name(data.pages[position]), data.amounts[position] * 100, seq)
    return checksum


def _logged_in(data: Dataset, position: int) -> bool:
    return abs(data.timestamp(position) - data.timestamp(data.login(data.users[position]))) <= WINDOW_MS


RECORD_FIELDS = {
    "map": ("user", "page", "cents", "seq"),
    "table-join": ("user", "amount", "seq", "tier"),
    "stream-join": ("user", "amount", "seq", "tier"),
    "consume-produce": ("user", "page", "amount", "seq", "kind"),
}
"""For workloads that emit records rather than updates: the fields of each output value."""


async def check(cluster: Cluster, topic: str, workload: str, decode: Decoder, right: Any) -> Verdict:
    """Read a run's output topic and compare it with the right results."""
    if isinstance(right, Checksum):
        return await _check_records(cluster, topic, workload, decode, right)
    final: dict[Any, Any] = {}
    async for rows in cluster.read(topic):
        for row in rows:
            key, value = decode(row.key, row.value or NO_VALUE)
            final[key] = value  # a key lives in one partition, so the last one read is its newest
            if row.value is None:
                del final[key]
    if final == right:
        return Verdict(True)
    missing = len(right.keys() - final.keys())
    extra = len(final.keys() - right.keys())
    wrong = sum(1 for key in right.keys() & final.keys() if right[key] != final[key])
    return Verdict(False, f"of {len(right)} keys {missing} are missing and {wrong} wrong; {extra} should not be there")


async def _check_records(cluster: Cluster, topic: str, workload: str, decode: Decoder, right: Checksum) -> Verdict:
    names = RECORD_FIELDS[workload]
    found = Checksum()
    async for rows in cluster.read(topic):
        for row in rows:
            key, value = decode(row.key, row.value)
            found.add(key, *[value.get(name) for name in names])
    if found == right:
        return Verdict(True)
    return Verdict(False, f"{found.count} records with checksum {found.total}, not {right.count} with {right.total}")
