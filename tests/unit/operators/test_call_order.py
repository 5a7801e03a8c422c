"""The order of calls against a model that knows everything: random arrivals, random ends."""

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.operators.call_order import Call, CallOrder, lane_of

KEYS = st.sampled_from(["a", "b", "c", None, {"json": 1}])
STEPS = st.lists(
    st.one_of(KEYS.map(lambda key: ("add", key)), st.integers(0, 9).map(lambda n: ("end", n))), max_size=60
)


def call(number: int, key: Any = "a") -> Call:
    return Call(None, number, key, None, number)


@given(steps=STEPS, concurrency=st.integers(1, 5), ordered=st.booleans(), one_per_key=st.booleans())
def test_every_result_goes_on_once_and_in_its_order_whatever_ends_first(
    steps: list[tuple[str, Any]], concurrency: int, ordered: bool, one_per_key: bool
) -> None:
    order = CallOrder(concurrency, ordered=ordered, one_per_key=one_per_key)
    added: list[Call] = []
    running: list[Call] = []
    ended: list[Call] = []
    taken: list[Call] = []

    def begin() -> None:
        while (begun := order.begin()) is not None:
            running.append(begun)
        assert len(running) <= concurrency
        lanes = Counter(each.lane for each in running if each.lane is not None)
        if one_per_key:
            assert max(lanes.values(), default=0) <= 1
        elif len(running) < concurrency:
            assert len(running) + len(ended) == len(added)

    def end(number: int) -> None:
        one = running.pop(number % len(running))
        ended.append(one)
        something = order.ended(one)
        before = len(taken)
        taken.extend(order.take(3))
        assert something == (len(taken) > before)
        while more := order.take(3):
            taken.extend(more)

    for what, how in steps:
        if what == "add":
            added.append(call(len(added), how))
            order.add(added[-1])
        elif running:
            end(how)
        begin()
        assert order.held == len(added) - len(taken)
        if ordered:
            assert taken == added[: len(taken)]
            assert order.held == 0 or not added[len(taken)].ended
        else:
            assert set(taken) >= {one for one in ended if one.lane is None}
    while running:
        end(0)
        begin()
    assert order.held == 0
    assert Counter(taken) == Counter(added)
    by_lane: defaultdict[Any, list[int]] = defaultdict(list)
    for one in taken:
        by_lane[one.lane].append(one.timestamp)
    assert all(ordered_ == sorted(ordered_) for lane, ordered_ in by_lane.items() if lane is not None)


def test_a_slow_key_holds_up_no_other_key_when_results_come_as_calls_end() -> None:
    order = CallOrder(9, ordered=False, one_per_key=False)
    calls = [call(0, "slow"), call(1, "fast"), call(2, "slow"), call(3, "fast"), call(4, None), call(5, None)]
    for one in calls:
        order.add(one)
        order.begin()
    assert [order.ended(calls[n]) for n in (5, 3, 2, 1)] == [True, True, True, True]
    assert [one.offset for one in order.take(9)] == [5, 1, 3]
    order.ended(calls[0])
    assert [one.offset for one in order.take(9)] == [0, 2]


def test_nothing_can_go_on_when_an_earlier_call_has_not_ended() -> None:
    order = CallOrder(9, ordered=True, one_per_key=False)
    calls = [call(0), call(1, "b"), call(2, None)]
    for one in calls:
        order.add(one)
        order.begin()
    assert [order.ended(calls[n]) for n in (2, 1)] == [False, False]
    assert order.take(9) == []
    assert order.ended(calls[0])
    assert order.take(2) == calls[:2]
    assert order.take(2) == calls[2:]


@pytest.mark.parametrize(("one", "other"), [({"a": [1]}, {"a": [1]}), ((1, [2]), (1, [2])), ("a", "a")])
def test_equal_keys_share_a_lane_also_when_they_cannot_be_hashed(one: Any, other: Any) -> None:
    assert lane_of(one) == lane_of(other) is not None
