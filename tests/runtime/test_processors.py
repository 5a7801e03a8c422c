"""Processors in workers: timers on idle inputs, commits on request, global stores."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from streamlib import Processor, PunctuationType, Record, Stores, StreamsBuilder, Topology, serdes
from tests.runtime.conftest import Application

S, I = serdes.STRING, serdes.INT64  # noqa: E741
TICK = timedelta(milliseconds=20)


class Ticking(Processor[str, str, str, int]):
    """Counts its ticks in a store, whether records come or not."""

    @staticmethod
    def stores() -> list[Any]:
        return [Stores.key_value_store("ticks", S, I)]

    def init(self, context: Any) -> None:
        super().init(context)
        self.ticks = context.get_state_store("ticks")
        context.schedule(TICK, PunctuationType.WALL_CLOCK_TIME, self.tick)

    def process(self, record: Record[str, str]) -> None:
        raise AssertionError("there are no records")

    def tick(self, now: int) -> None:
        count = (self.ticks.get("n") or 0) + 1
        self.ticks.put("n", count)
        self.context.forward(Record("n", count, now))


async def until(holds: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)


def ticking() -> Topology:
    builder = StreamsBuilder("app", default_key_serde=S, default_value_serde=S)
    builder.stream("in").process(Ticking, name="ticking", value_serde=I).to("out")
    return builder.build()


async def ticks(app: Application, topic: str = "out") -> list[int]:
    return [I.deserialize(value) for _, value, _ in await app.read(topic) if value is not None]


async def test_timers_run_and_are_committed_when_no_record_comes(app: Application) -> None:
    await app.create(1, "in", "out")

    async def reached(count: int) -> bool:
        return max(await ticks(app, "app-ticks-changelog"), default=0) >= count

    async with app.streams(ticking()):
        await until(lambda: reached(3))
    before = max(await ticks(app, "app-ticks-changelog"))
    async with app.streams(ticking(), worker="another"):
        await until(lambda: reached(before + 2))
    counted = await ticks(app)
    assert counted == list(range(1, len(counted) + 1))
    assert await app.lag("app", ["in"]) == 0


async def test_a_commit_happens_long_before_the_interval_when_a_processor_asks_for_it(app: Application) -> None:
    class Asking(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            if record.value == "now":
                self.context.commit()

    builder = StreamsBuilder("app", default_key_serde=S, default_value_serde=S)
    builder.stream("in").process(Asking, name="asking")
    await app.create(1, "in")
    await app.produce("in", [("a", "later", 1), ("b", "now", 2)])

    async def committed() -> bool:
        return await app.lag("app", ["in"]) == 0

    async with app.streams(builder.build(), commit_interval_ms=3_600_000):
        await until(committed)


async def test_a_global_store_holds_what_its_processor_made_when_another_worker_starts(app: Application) -> None:
    class Fill(Processor[str, str, Any, Any]):
        def init(self, context: Any) -> None:
            self.names = context.get_state_store("names")

        def process(self, record: Record[str, str]) -> None:
            self.names.put(record.key, record.value.upper())

    class Greet(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            names = self.context.get_state_store("names")
            self.context.forward(record.with_value(f"{record.value} {names.get(record.key)}"))

    builder = StreamsBuilder("app", default_key_serde=S, default_value_serde=S)
    builder.add_global_store(Stores.key_value_store("names", S, S), "names", Fill)
    builder.stream("in").process(Greet, name="greet").to("out")
    topology = builder.build()
    await app.create(2, "names", "in", "out")
    await app.produce("names", [("a", "ann", 0), ("b", "bob", 0), ("b", "bill", 0)])
    await app.produce("in", [("a", "hi", 1), ("b", "hi", 1)])
    await app.run(topology, "in")
    await app.produce("in", [("a", "bye", 2), ("b", "bye", 2)])
    await app.run(topology, "in", worker="another")
    assert sorted(value for _, value, _ in await app.read("out") if value) == [
        b"bye ANN",
        b"bye BILL",
        b"hi ANN",
        b"hi BILL",
    ]
    await app.run(topology, "in")  # the first one's state is there already
