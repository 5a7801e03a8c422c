"""What goes wrong and when, by a seed; each fault hits a worker that lives, and waits until there is one.

Most wait until something was committed after the fault before, so that they hit work, also on a slow machine; the
others hit whatever goes on: a rebalance, a worker that restores or starts.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.chaos.slots import Slot

TICK_SECONDS = 0.05
AT_ONCE = 0.15  # of the faults come together with the one before
AT_WORK = 0.75  # of the faults wait for work
WAIT_SECONDS = 15.0
KILL_FROZEN = 0.1  # of the kills hit a process that stands still, if there is one


class Work(Protocol):
    """What is known of the workers' work: `Watch`.

    Attributes:
        committed: Input records that are committed.
        pending: Input records that are not.
    """

    committed: int
    pending: int


@dataclass(frozen=True)
class Fault:
    """One thing to do.

    Attributes:
        kind: ``kill``, ``stop``, ``term`` or ``scale``.
        gap_seconds: After the one before.
    """

    kind: str
    gap_seconds: float


def planned(chance: random.Random, counts: Counter[str], seconds: float) -> list[Fault]:
    """All faults in their order, spread over about so many seconds."""
    kinds = sorted(counts.elements())
    chance.shuffle(kinds)
    gaps = [0.05 if chance.random() < AT_ONCE else chance.uniform(0.2, 2.0) for _ in kinds]
    scale = seconds / sum(gaps) if gaps else 1.0
    return [Fault(kind, gap * scale) for kind, gap in zip(kinds, gaps, strict=True)]


class Chaos:
    """Carries out faults.

    Args:
        slots: One more than workers are there at first.
        faults: What to do.
        chance: Picks victims and durations.
        frozen_seconds: Least and most time for which a process stands still: longer than the session timeout.
        work: What was committed.
        turns: How often another slot is spared: what runs there is not ended for that part of the faults, unless it is
            alone, and is there at every rebalance. 0 to spare none.

    Attributes:
        done: How many faults of each kind there were.
        progress: The part of the faults that is over, from 0 to 1.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        faults: Sequence[Fault],
        chance: random.Random,
        frozen_seconds: tuple[float, float],
        work: Work,
        turns: int,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.progress = 0.0
        self._slots = slots
        self._faults = faults
        self._chance = chance
        self._frozen_seconds = frozen_seconds
        self._work = work
        self._turns = turns

    async def run(self) -> None:
        """Do everything, and return once every process runs again."""
        for number, fault in enumerate(self._faults):
            began, committed = time.monotonic(), self._work.committed
            while (passed := time.monotonic() - began) < fault.gap_seconds:
                self.progress = (number + passed / fault.gap_seconds) / len(self._faults)
                await asyncio.sleep(min(TICK_SECONDS, fault.gap_seconds - passed))
            if self._chance.random() < AT_WORK:
                while self._work.pending and self._work.committed == committed:
                    if time.monotonic() - began > WAIT_SECONDS:
                        break
                    await asyncio.sleep(TICK_SECONDS)
            while not self._carry_out(fault.kind):
                await asyncio.sleep(TICK_SECONDS)
            self.done[fault.kind] += 1
        self.progress = 1.0
        for slot in self._slots:
            slot.thaw()
        while not all(slot.live for slot in self._slots if slot.wanted):
            await asyncio.sleep(TICK_SECONDS)

    def _carry_out(self, kind: str) -> bool:
        """Whether there was somebody to hit."""
        live = [slot for slot in self._slots if slot.live]
        frozen = [slot for slot in self._slots if slot.frozen]
        if kind != "stop" and (spared := self._spared) is not None:
            live, frozen = ([slot for slot in each if slot is not spared] for each in (live, frozen))
        if kind == "scale":
            return self._scale(live)
        if kind == "kill" and frozen and self._chance.random() < KILL_FROZEN:
            live = frozen
        if not live:
            return False
        victim = self._chance.choice(live)
        if kind == "kill":
            victim.kill(self._chance.uniform(0.0, 1.0))
        elif kind == "stop":
            victim.freeze(self._chance.uniform(*self._frozen_seconds))
        else:
            victim.end(self._chance.uniform(0.0, 1.0))
        return True

    @property
    def _spared(self) -> Slot | None:
        wanted = [slot for slot in self._slots if slot.wanted]
        if not self._turns or len(wanted) < 2:
            return None
        slot = self._slots[int(self.progress * self._turns) % len(self._slots)]
        return slot if slot.wanted else None

    def _scale(self, live: Sequence[Slot]) -> bool:
        idle = [slot for slot in self._slots if not slot.wanted]
        leaving = live if len(self._slots) - len(idle) > 1 else []
        if not idle and not leaving:
            return False
        if idle and (not leaving or self._chance.random() < len(idle) / 2):
            self._chance.choice(idle).wanted = True
        else:
            slot = self._chance.choice(leaving)
            slot.wanted = False
            slot.end()
        return True
