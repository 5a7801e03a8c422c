"""The application that simulations run: it counts words, in all and by window, and ticks with the wall clock.

Every count and every tick is one higher than the last one of its key, so that each output shows on its own what is
lost or done twice. Ticks come without records, the first of them when a task starts: their tasks write in transactions
that take nothing from an input.
"""

from datetime import timedelta
from typing import Any

from streamlib import Processor, PunctuationType, Record, Stores, StreamsBuilder, TimeWindows, Topology, serdes

NAME = "simulated"
INPUT, COUNTS, WINDOWS, TICKS = "input", "counts", "windows", "ticks"
PARTITIONS = 2
TICK_SECONDS = 0.4
WINDOW_MS = 2_000

S, I = serdes.STRING, serdes.INT64  # noqa: E741


class Ticker(Processor[str, str, str, int]):
    """Counts its ticks."""

    @staticmethod
    def stores() -> list[Any]:
        return [Stores.key_value_store("ticks-store", S, I)]

    def init(self, context: Any) -> None:
        super().init(context)
        self._ticks = context.get_state_store("ticks-store")
        self._name = f"ticks of {context.task_id}"
        self._tick(context.current_system_time_ms)
        context.schedule(timedelta(seconds=TICK_SECONDS), PunctuationType.WALL_CLOCK_TIME, self._tick)

    def process(self, record: Record[str, str]) -> None:
        """Records are for the others."""

    def _tick(self, now: int) -> None:
        count = (self._ticks.get(self._name) or 0) + 1
        self._ticks.put(self._name, count)
        self.context.forward(Record(self._name, count, max(0, now)))


def topology() -> Topology:
    """The plan."""
    builder = StreamsBuilder(NAME, default_key_serde=S, default_value_serde=S)
    source = builder.stream(INPUT)
    source.process(Ticker, name="ticker", value_serde=I).to(TICKS, value_serde=I)
    words = source.group_by(lambda _, word: word, name="words")
    words.count(store="counts-store").to_stream().to(COUNTS, value_serde=I)
    (
        words.windowed_by(TimeWindows.of(timedelta(milliseconds=WINDOW_MS), grace=timedelta(hours=1)))
        .count(store="windows-store")
        .to_stream()
        .map(lambda key, count: (f"{key.key}@{key.start}", count), name="flat")
        .to(WINDOWS, key_serde=S, value_serde=I)
    )
    return builder.build()
