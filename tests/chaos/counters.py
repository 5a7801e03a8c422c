"""What workers say about themselves: whether they have left out any record. Here none of them may.

Asked on their page of metrics, as a scraper would. A worker that is killed takes its last counts with it; what is left
out again and again is seen all the same, and what is left out once is missing from the outputs.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

from tests.chaos.slots import HOST, Slot

LOOK_SECONDS = 2.0
ANSWER_SECONDS = 1.0
LEFT_OUT = re.compile(r"^streamlib_((?:dropped_records|dead_letters)_total\{[^}]*\}) (\S+)$", re.MULTILINE)


def left_out(page: str) -> dict[str, int]:
    """How many records were dropped or became dead letters, by counter and labels."""
    return {name: int(float(count)) for name, count in LEFT_OUT.findall(page) if float(count)}


class Counters:
    """Asks workers again and again.

    Attributes:
        answers: How often one answered.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.answers = 0
        self._slots = slots
        self._told: dict[int, dict[str, int]] = {}  # by process: the last answer, if it was not empty

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask each worker once; who does not answer is asked again later."""
        await asyncio.gather(*(self._ask(slot) for slot in self._slots if slot.live))

    @property
    def dropped(self) -> dict[str, int]:
        """What all workers together have left out, by counter and labels."""
        total: dict[str, int] = {}
        for told in self._told.values():
            for name, count in told.items():
                total[name] = total.get(name, 0) + count
        return total

    async def _ask(self, slot: Slot) -> None:
        pid = slot.pid
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            page = await _page(slot.port)
            if pid is None or not page.startswith("HTTP/1.1 200"):
                return
            self.answers += 1
            if told := left_out(page):
                self._told[pid] = told


async def _page(port: int) -> str:
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(f"GET /metrics HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
            return (await reader.read()).decode()
        finally:
            writer.close()
