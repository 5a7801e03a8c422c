"""A store that the user has written, in workers: restarts on another machine, and work that is dropped."""

from typing import Any

import pytest

from streamlib import CustomStore, ProcessingError, Processor, Record, Stores, StreamsBuilder, serdes
from streamlib.topology.topology import Topology

S = serdes.STRING


class Seen(CustomStore):
    """How often each key was seen."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, record: Record[str, str]) -> int:
        count = self.counts[record.key] = self.counts.get(record.key, 0) + 1
        self.context.log(record.key.encode(), b"%d" % count, record.timestamp)
        return count

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        for key, value in zip(keys, values, strict=True):
            self.counts[key.decode()] = int(value or 0)


class Count(Processor[str, str, str, str]):
    def process(self, record: Record[str, str]) -> None:
        count = self.context.get_state_store("seen").add(record)
        self.context.forward(record.with_value(str(count)))


class Failing(Count):
    def process(self, record: Record[str, str]) -> None:
        super().process(record)
        if record.value == "bad":
            raise RuntimeError("bad")


def counting(processor: type[Count] = Count) -> Topology:
    builder = StreamsBuilder("custom")
    builder.add_state_store(Stores.custom_store("seen", Seen))
    builder.stream("in", S, S).process(processor, "seen", name="count").to("out")
    return builder.build()


async def counts(app: Any) -> dict[bytes, bytes]:
    return {key: value for key, value, _ in await app.read("out")}


async def test_another_worker_has_it_all_from_the_changelog(app: Any) -> None:
    await app.create(2, "in", "out")
    await app.produce("in", [(key, "x", 1) for key in "abcabcab"])
    await app.run(counting(), "in")
    await app.produce("in", [("a", "x", 2), ("c", "x", 3)])
    await app.run(counting(), "in", worker="elsewhere")
    assert await counts(app) == {b"a": b"4", b"b": b"3", b"c": b"3"}
    assert {(key, value) for key, value, _ in await app.read("custom-seen-changelog")} >= {(b"a", b"4"), (b"c", b"3")}


async def test_what_was_not_committed_is_not_there_when_the_worker_starts_again(app: Any) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "x", 1), ("a", "x", 2)])
    await app.run(counting(), "in")
    await app.produce("in", [("a", "bad", 3)])
    with pytest.raises(ProcessingError, match="bad"):
        await app.run(counting(Failing), "in")
    assert await counts(app) == {b"a": b"2"}
    await app.run(counting(), "in")
    assert await counts(app) == {b"a": b"3"}
