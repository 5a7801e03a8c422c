"""Faults hit whom they may hit. The slots are real, their processes do nothing but sleep."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import Chaos, Fault
from tests.chaos.slots import Program, Slot


class Nothing:
    """There is no work."""

    committed = 0
    pending = 0


class Sleeping(Slot):
    """Its process has tasks at once and does nothing."""

    def _launch(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._ended_by, self.assigned = None, True


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[list[Slot]]:
    made: list[Slot] = [Sleeping(number, Program("", "", tmp_path, {})) for number in range(3)]
    for slot in made:
        slot.wanted = True
        slot.tend()
    yield made
    for slot in made:
        slot.close()


async def killed(slots: list[Slot], turns: int, kills: int) -> list[bool]:
    """Whose process was replaced."""
    before = [slot.pid for slot in slots]
    faults = [Fault("kill", 0.001)] * kills
    await Chaos(slots, faults, random.Random(1), (0.1, 0.2), Nothing(), turns).run()
    return [slot.pid != pid for slot, pid in zip(slots, before, strict=True)]


@pytest.mark.slow
async def test_every_slot_is_hit_when_none_is_spared(slots: list[Slot]) -> None:
    assert await killed(slots, turns=0, kills=8) == [True, True, True]


@pytest.mark.slow
async def test_slot_lives_on_when_it_is_its_turn(slots: list[Slot]) -> None:
    assert await killed(slots, turns=1, kills=8) == [False, True, True]


async def test_slot_is_hit_in_its_turn_when_it_is_alone(slots: list[Slot]) -> None:
    for slot in slots[1:]:
        slot.close()
    assert (await killed(slots, turns=1, kills=1))[0]
