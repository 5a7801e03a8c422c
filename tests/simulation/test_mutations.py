"""The simulation bites: with one safety rule taken out, some seed of a few fails that passes with it."""

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.scenario import run

SEEDS = range(160)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_a_seed_fails_when_a_rule_is_not_kept(mutation: Mutation) -> None:
    with mutation.applied():
        failing = next((seed for seed in SEEDS if run(seed, mutation.settings).problems), None)
    assert failing is not None, f"no seed of {len(SEEDS)} shows that {mutation.what}"
    assert run(failing, mutation.settings).problems == []
