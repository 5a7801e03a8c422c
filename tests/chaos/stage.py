"""One application on a broker: its topics, places for its workers, somebody who looks on; and its orderly end."""

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.chaos.load import PARTITIONS
from tests.chaos.slots import Program, Slot
from tests.chaos.topology import INPUTS, SINKS, topic
from tests.chaos.verify import open_transactions
from tests.chaos.watch import Watch

TICK_SECONDS = 0.05
OFFSETS_TOPIC = "__consumer_offsets"


class Stage:
    """Use it with ``async with``: that makes the topics; at the end no worker is left.

    Args:
        broker: Its address.
        folder: Where state and logs are kept.
        slots: How many places for workers.
        settings: Of the workers.

    Attributes:
        application: Application id, new for each stage.
        slots: Nobody is wanted there at first.
        watch: Connected.
    """

    def __init__(self, broker: str, folder: Path, slots: int, settings: Mapping[str, object]) -> None:
        self.broker = broker
        self.application = f"chaos-{uuid.uuid4().hex[:8]}"
        program = Program(broker, self.application, folder, settings)
        self.slots = [Slot(number, program) for number in range(slots)]
        self.watch = Watch(broker, self.application, self.slots)

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await admin.start()
        try:
            names = [topic(self.application, name) for name in (*INPUTS, *SINKS)]
            await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        finally:
            await admin.close()
        await self.watch.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for slot in self.slots:
            slot.close()
        await self.watch.close()

    @property
    def crashes(self) -> list[str]:
        """What went wrong with workers that nobody had ended, or that did not end in order."""
        return [crash for slot in self.slots for crash in slot.crashes]

    async def live(self) -> None:
        """Wait until a worker works wherever one is wanted."""
        while not all(slot.live for slot in self.slots if slot.wanted):
            await asyncio.sleep(TICK_SECONDS)

    async def drain(self, seconds: float) -> int:
        """Wait until everything is committed; how many records are not, when for so long none has been."""
        least: int | None = None
        deadline = 0.0
        while left := await self.watch.uncommitted():
            if least is None or left < least:
                least, deadline = left, time.monotonic() + seconds
            elif time.monotonic() > deadline:
                break
            await asyncio.sleep(TICK_SECONDS)
        return left

    async def end(self, slots: Iterable[Slot] | None = None) -> None:
        """End workers in order; all of them by default."""
        ending = list(self.slots if slots is None else slots)
        for slot in ending:
            slot.wanted = False
            slot.end()
        while any(slot.running for slot in ending):
            for slot in ending:
                slot.tend()
            await asyncio.sleep(TICK_SECONDS)

    async def open_transactions(self) -> int:
        """Partitions with records neither committed nor aborted, after a moment for the broker to finish its part."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await admin.start()
        try:
            names = [name for name in await admin.list_topics() if name.startswith(f"{self.application}-")]
            described = await admin.describe_topics([*names, OFFSETS_TOPIC])
        finally:
            await admin.close()
        partitions = {each["topic"]: len(each["partitions"]) for each in described}
        for _ in range(5):
            if not (found := await open_transactions(self.broker, partitions)):
                break
            await asyncio.sleep(0.3)
        return found
