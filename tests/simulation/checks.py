"""What must hold when everything is quiet again, found out from the broker's logs and the disks alone.

Exactly once: each word's counts go 1, 2, 3 to the number of its records, in the order of the log; so do the counts of
each window and the ticks of each partition. Stores are the fold of their changelogs. At least once: nothing is lost.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from streamlib.record import TopicPartition
from tests.simulation import application
from tests.simulation.broker import Broker
from tests.simulation.disk import Disk, DiskEngine

ALL = 1_000_000
COUNT = 8
STORES = {"ticks-store": 0, "counts-store": 1, "windows-store": 1}  # with the number of their sub-topology


@dataclass
class Expected:
    """What went in, and what may be said of what comes out.

    Attributes:
        words: With their timestamps.
        exactly_once: Whether each counts once.
        cached: Whether some counts may be left out.
        zombies: Whether an old owner of a task may have written beside the new one; at least once nothing keeps its
            counts from being restored.
    """

    words: list[tuple[str, int]] = field(default_factory=list)
    exactly_once: bool = False
    cached: bool = False
    zombies: bool = False


def settled(broker: Broker, application_id: str) -> bool:
    """Whether everything that was written for the application to read is read and committed."""
    committed = broker.kept(application_id)
    counts = broker.counts(None)
    inputs = (application.INPUT, f"{application_id}-words-repartition")
    for topic in inputs:
        for number in range(counts.get(topic, 0)):
            tp = TopicPartition(topic, number)
            log = broker.partition(tp)
            at = max(log.start, committed[tp].offset if tp in committed else 0)
            if log.stable != log.end or len(log.read(at, 1, committed=True)):
                return False
    return inputs[1] in counts


def problems_of(broker: Broker, application_id: str, expected: Expected, disks: Collection[Disk]) -> list[str]:
    """What does not add up."""
    problems: list[str] = []
    words = Counter(word for word, _ in expected.words)
    size = application.WINDOW_MS
    windows = Counter(f"{word}@{timestamp // size * size}" for word, timestamp in expected.words)
    for topic, wanted in ((application.COUNTS, words), (application.WINDOWS, windows)):
        seen = outputs(broker, topic)
        problems += [f"{topic}: {key} was never there" for key in sorted(seen.keys() - wanted.keys())]
        for key, last in sorted(wanted.items()):
            problems += _wrong(f"{topic}: {key}", seen.get(key, []), last, expected)
    repartitioned = f"{application_id}-words-repartition"
    passed = Counter(value for n in range(application.PARTITIONS) for value in _values(broker, repartitioned, n))
    problems += [f"{word} came {words[word]} times and went on {passed[word]} times" for word in words - passed]
    twice = passed - words if expected.exactly_once else Counter[str]()
    problems += [f"{word} came {words[word]} times and went on {passed[word]} times" for word in twice]
    if expected.exactly_once:
        for key, ticks in sorted(outputs(broker, application.TICKS).items()):
            if ticks != list(range(1, len(ticks) + 1)):
                problems.append(f"ticks: {key} went {ticks}")
    for tp in partitions(broker):
        log = broker.partition(tp)
        if log.stable != log.end:
            problems.append(f"a transaction is open on {tp}")
    for disk in disks:
        for task, engine in sorted(disk.engines.items()):
            zombies = not expected.exactly_once  # one of them may have written to the changelog in between
            problems += _state(broker, application_id, f"{disk.name}/{task}", engine, zombies=zombies)
    return problems


def _values(broker: Broker, topic: str, number: int) -> list[str]:
    """The values of a partition, read committed, purged ones included."""
    values = broker.partition(TopicPartition(topic, number)).everything()
    return [value.decode() for value in values if value is not None]


def _wrong(what: str, seen: Sequence[int], last: int, expected: Expected) -> list[str]:
    if not expected.exactly_once:
        if not expected.zombies and max(seen, default=0) < last:
            return [f"{what} ended at {max(seen, default=0)}, although it came {last} times"]
        return []
    if expected.cached:
        right = list(seen) == sorted(set(seen)) and seen[-1:] == [last]
    else:
        right = list(seen) == list(range(1, last + 1))
    return [] if right else [f"{what} went {list(seen)}, although it came {last} times"]


def partitions(broker: Broker) -> list[TopicPartition]:
    """All of them."""
    return [TopicPartition(topic, n) for topic, count in broker.counts(None).items() for n in range(count)]


def outputs(broker: Broker, topic: str) -> dict[str, list[int]]:
    """For each key its numbers, read committed, in the order of the log."""
    found: dict[str, list[int]] = {}
    for number in range(application.PARTITIONS):
        batch = broker.partition(TopicPartition(topic, number)).read(0, ALL, committed=True)
        for key, value in zip(batch.keys, batch.values, strict=True):
            assert key is not None
            assert value is not None
            found.setdefault(key.decode(), []).append(int.from_bytes(value, "big"))
    return found


def _state(broker: Broker, application_id: str, where: str, engine: DiskEngine, *, zombies: bool) -> list[str]:
    """Whether what an engine holds is the fold of its changelogs up to the offsets it has, and of nothing else.

    Rows may be newer, from a batch of which only the first chunks were written; aborted rows there are none. Where
    several may have written to a changelog at a time, rows are at least among what was written.
    """
    problems = []
    number, partition = map(int, where.rpartition("/")[2].split("_"))
    held = engine.offsets()
    for store in [store for store, subtopology in STORES.items() if subtopology == number]:
        tables = [name for name in engine.tables() if name.split("/")[0] == store]
        rows = {key: row[-COUNT:] for name in tables for key, row in engine.scan(name, b"\0", None)}
        log = broker.partition(TopicPartition(f"{application_id}-{store}-changelog", partition))
        batch = log.read(0, ALL, committed=True)
        fold: dict[bytes, set[bytes]] = {}
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
            assert key is not None
            assert value is not None
            if offset < held.get(store, 0) and not zombies:
                fold[key] = {value}
            else:
                fold.setdefault(key, set()).add(value)
        reached = {key for offset, key in zip(batch.offsets, batch.keys, strict=True) if offset < held.get(store, 0)}
        for key in sorted({*rows, *(each for each in reached if each is not None)}):
            if rows.get(key) not in fold.get(key, ()):
                told = int.from_bytes(rows.get(key, b""), "big")
                problems.append(f"{where}: {store} at {held.get(store)} has {key!r}={told}, not as its changelog")
    return problems
