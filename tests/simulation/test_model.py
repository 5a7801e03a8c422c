"""Every order of events of the protocol in the small: none is wrong with all rules, some is without any one of them."""

import pytest

from tests.simulation import model


@pytest.mark.slow
def test_no_order_of_events_is_wrong_when_all_rules_are_kept() -> None:
    states, problem, way = model.explore()
    assert (problem, way) == (None, [])
    assert states > 100_000


@pytest.mark.parametrize("rule", model.RULES)
def test_some_order_of_events_is_wrong_when_a_rule_is_not_kept(rule: str) -> None:
    _, problem, way = model.explore(rule)
    assert problem is not None
    assert len(way) < 20
