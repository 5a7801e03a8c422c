"""What the workers run: ``streamlib worker "tests.chaos.topology:build()"``. The environment names the application.

Everything that exactly-once has to keep right is in it: records that pass, a count with its whole history in each
result, sums of windows through the write cache, a repartition topic with state behind it, a join of two streams, and
timers, which write without any input. These also say who writes: a task stamps its work when it starts, and in nearly
every commit that follows.
"""

import os
from collections import Counter
from datetime import timedelta
from typing import Any
from zlib import crc32

from streamlib import (
    JoinWindows,
    KeyValueStore,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Stores,
    StreamsBuilder,
    TimeWindows,
    Topology,
    serdes,
)
from tests.chaos.load import (
    COUNTED,
    GATHERED,
    GRACE_MS,
    JOIN_MS,
    NUMBER,
    OTHER_BYTES,
    PAIR,
    RECORD,
    SUMMED,
    TICK,
    WINDOW_MS,
)

VARIABLE = "CHAOS_APPLICATION"
INPUTS = ("left", "right")
SINKS = ("forwarded", "counts", "sums", "repartitioned", "gathered", "pairs", "ticks", "other-ticks")
STORES = ("counts", "sums", "gathered", "ticks", "other-ticks")
EVERY = timedelta(milliseconds=75)  # more often than commits
REPARTITION = "by-other-repartition"
PROCESS = int.from_bytes(os.urandom(8))
STARTS: Counter[str] = Counter()  # of each task in this process


def topic(application: str, name: str) -> str:
    """The name on the broker of an input, a sink, or an internal topic."""
    return f"{application}-{name}"


def count(_key: bytes, value: bytes, held: bytes) -> bytes:
    """One more, and the order of all so far."""
    number = RECORD.unpack(value)[0]
    before, _, chain = COUNTED.unpack(held)
    return COUNTED.pack(before + 1, number, crc32(NUMBER.pack(number), chain))


def add(_key: bytes, value: bytes, held: bytes) -> bytes:
    """One more, and the sum."""
    before, total = SUMMED.unpack(held)
    return SUMMED.pack(before + 1, total + RECORD.unpack(value)[1])


def gather(_key: bytes, value: bytes, held: bytes) -> bytes:
    """One more, the sum, and the sum of the numbers; the order is not known here."""
    number, amount, _, _ = RECORD.unpack(value)
    before, total, numbers = GATHERED.unpack(held)
    return GATHERED.pack(before + 1, total + amount, numbers + number)


def other(_key: bytes, value: bytes) -> bytes:
    """The key to repartition by."""
    number: int = RECORD.unpack(value)[2]
    return OTHER_BYTES[number]


def pair(left: bytes, right: bytes) -> bytes:
    """Two records that have met."""
    return PAIR.pack(RECORD.unpack(left)[0], RECORD.unpack(right)[0])


class Ticking(Processor[bytes, bytes, bytes, bytes]):
    """Counts its ticks, which come when it starts and by the wall clock; records are of no interest.

    A tick says which process made it, at which start of the task in this process, and the how manieth it is since. The
    runtime makes a new processor whenever a task starts from what is committed, so a start is what owns a task.
    """

    store = "ticks"

    @classmethod
    def stores(cls) -> list[Any]:
        """What it counts in."""
        return [Stores.key_value_store(cls.store, serdes.BYTES, serdes.BYTES)]

    def init(self, context: ProcessorContext[bytes, bytes]) -> None:
        """Begin to tick."""
        super().init(context)
        STARTS[context.task_id] += 1
        self._key, self._start, self._made = context.task_id.encode(), STARTS[context.task_id], 0
        self._ticks: KeyValueStore[bytes, bytes] = context.get_state_store(self.store)
        self._tick(context.current_system_time_ms)
        context.schedule(EVERY, PunctuationType.WALL_CLOCK_TIME, self._tick)

    def process(self, record: Record[bytes, bytes]) -> None:
        """Nothing."""

    def _tick(self, now_ms: int) -> None:
        held = self._ticks.get(self._key)
        self._made += 1
        tick = TICK.pack(TICK.unpack(held)[0] + 1 if held else 1, PROCESS, self._start, self._made)
        self._ticks.put(self._key, tick)
        self.context.forward(Record(self._key, tick, now_ms))


class OtherTicking(Ticking):
    """The same behind the repartition topic."""

    store = "other-ticks"


def build() -> Topology:
    """The topology, with the topics of the application that the environment names."""
    name = os.environ[VARIABLE]
    grace = timedelta(milliseconds=GRACE_MS)
    window, apart = timedelta(milliseconds=WINDOW_MS), timedelta(milliseconds=JOIN_MS)
    builder = StreamsBuilder(name)
    left, right = (builder.stream(topic(name, each), serdes.BYTES, serdes.BYTES) for each in INPUTS)
    left.to(topic(name, "forwarded"))
    grouped = left.group_by_key()
    counts = grouped.aggregate(lambda: COUNTED.pack(0, 0, 0), count, store="counts", caching=False)
    counts.to_stream().to(topic(name, "counts"))
    sums = grouped.windowed_by(TimeWindows.of(window, grace=grace))
    summed = sums.aggregate(lambda: SUMMED.pack(0, 0), add, store="sums")
    summed.to_stream().to(topic(name, "sums"), key_serde=serdes.time_windowed(serdes.BYTES, window))
    repartitioned = left.select_key(other).repartition(name="by-other")
    repartitioned.to(topic(name, "repartitioned"))
    gathered = repartitioned.group_by_key().aggregate(
        lambda: GATHERED.pack(0, 0, 0), gather, store="gathered", caching=False
    )
    gathered.to_stream().to(topic(name, "gathered"))
    joined = left.join(right, pair, JoinWindows.of(apart, grace=grace), store="pairs", name="pairs")
    joined.to(topic(name, "pairs"), value_serde=serdes.BYTES)
    left.process(Ticking, name="ticking").to(topic(name, "ticks"))
    repartitioned.process(OtherTicking, name="other-ticking").to(topic(name, "other-ticks"))
    return builder.build()
