"""Whole workers under seeds: nothing is lost and nothing done twice, whatever happens; each seed can be replayed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.chaos import MissedGeneration
from tests.simulation.scenario import Settings, run

ROOT = Path(__file__).resolve().parents[2]


def simulate(*arguments: str, hash_seed: str = "random") -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    return done.stdout


@pytest.mark.slow
def test_two_thousand_seeds_add_up_whatever_goes_wrong() -> None:
    assert simulate("--seeds", "0..2000").endswith("2000 passed, 0 failed\n")


def test_a_seed_does_the_same_when_it_is_run_again() -> None:
    for seed in range(5):
        first, second = run(seed), run(seed)
        assert (first.trace, first.seconds, first.deeds) == (second.trace, second.seconds, second.deeds)
    assert len({run(seed).trace for seed in range(5)}) == 5


@pytest.mark.slow
def test_a_seed_does_the_same_when_sets_have_another_order() -> None:
    assert simulate("--seeds", "11", "--log", hash_seed="1") == simulate("--seeds", "11", "--log", hash_seed="2")


@pytest.mark.slow
def test_chaos_strikes_in_every_way_when_there_are_many_seeds() -> None:
    deeds: dict[str, int] = {}
    for seed in range(80):
        for deed, count in run(seed).deeds.items():
            deeds[deed] = deeds.get(deed, 0) + count
    assert set(deeds) == {"crash", "freeze", "stop", "cut", "full disk"}
    assert min(deeds.values()) >= 3


@pytest.mark.slow
def test_tasks_are_restored_when_others_had_them_in_a_generation_that_was_missed() -> None:
    settings = Settings("exactly_once_v2", workers=2, seconds=8.0, chaos=MissedGeneration)
    results = [run(seed, settings) for seed in range(20)]
    assert [result.problems for result in results if result.problems] == []
    assert sum(result.deeds.get("crash", 0) for result in results) >= 5
