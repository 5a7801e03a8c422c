from typing import Any

import pytest

from streamlib import serdes
from streamlib.errors import DeserializationError, SerdeError
from streamlib.operators.foreign_key_right import (
    foreign_table_join,
    prefix,
    subscription_join,
    subscription_receive,
)
from streamlib.record import ChangeBatch
from streamlib.serdes.subscription import SUBSCRIPTION, Subscription, read_subscription
from streamlib.state.facade import after_prefix
from streamlib.topology.foreign_key_nodes import ForeignTableJoin, SubscriptionJoin, SubscriptionReceive
from streamlib.topology.nodes import TableMapValues, TableSource

RIGHT = TableSource(name="r", store="rs")
DELETE, DELETE_AND_TELL, TELL_ANYWAY, TELL_IF_THERE = range(4)
HASH = b"0123456789abcdef"


def subscription(instruction: int, primary_key: str = "p", partition: int = 3) -> bytes:
    return SUBSCRIPTION.serialize(Subscription(instruction, HASH, primary_key.encode(), partition))


def subscriptions(spec: Any) -> Any:
    return spec("subs", key_serde=serdes.BYTES, value_serde=SUBSCRIPTION, caching=False)


@pytest.mark.parametrize(
    ("foreign_key", "primary_key", "store_key"),
    [
        ("f1", "p1", "0000000266317031"),
        ("", "p", "0000000070"),
        ("é", "ü", "00000002c3a9c3bc"),
        ("f", "", "0000000166"),
    ],
)
def test_store_keys_are_those_of_java(foreign_key: str, primary_key: str, store_key: str) -> None:
    start = prefix(foreign_key.encode())
    assert (start + primary_key.encode()).hex() == store_key
    assert start <= bytes.fromhex(store_key) < after_prefix(start)


def test_a_prefix_ends_before_the_next_foreign_key() -> None:
    for foreign_key in (b"", b"a", b"\xff", b"a\xff\xff", b"\xff" * 300):
        start = prefix(foreign_key)
        assert start + b"\xff" * 9 < after_prefix(start)
        assert after_prefix(start) <= prefix(foreign_key[:-1] + b"\xff\0")


# ---- receive -----------------------------------------------------------------------------------------------


def test_subscriptions_are_kept_and_forgotten_as_they_say(site, spec, records) -> None:
    node = SubscriptionReceive(name="receive", subscriptions="subs")
    operator = site.build(subscription_receive, node, spec=subscriptions(spec))
    batch = records(
        (b"1", subscription(TELL_IF_THERE, "a"), 1),
        (b"1", subscription(TELL_ANYWAY, "b"), 2),
        (b"1", subscription(DELETE, "a"), 3),
        (b"2", subscription(DELETE_AND_TELL, "x"), 4),
    )
    operator.process(batch)
    assert site.out == [batch]
    kept = subscription(TELL_ANYWAY, "b")
    assert site.stored("subs") == {prefix(b"1") + b"b": (read_subscription(kept), 2)}
    assert [(key[4:], value is None, at) for key, value, at in site.changelog.rows] == [
        (b"1a", False, 1),
        (b"1b", False, 2),
        (b"1a", True, 3),
        (b"2x", True, 4),
    ]
    assert site.changelog.rows[1][1] == kept


def test_a_question_without_foreign_key_passes_and_is_not_kept(site, spec, records) -> None:
    node = SubscriptionReceive(name="receive", subscriptions="subs")
    operator = site.build(subscription_receive, node, spec=subscriptions(spec))
    question = subscription(TELL_ANYWAY)
    operator.process(records((None, question, 1), (None, subscription(TELL_IF_THERE), 2), (b"1", None, 3)))
    assert site.forwarded() == [(None, question, 1)]
    assert site.stored("subs") == {}
    assert (site.dropped(reason="null-key"), site.dropped(reason="null-value")) == (1, 1)
    operator.process(records((None, subscription(DELETE), 2)))
    assert site.out == []


# ---- answers to subscriptions ------------------------------------------------------------------------------


def join(site: Any, spec: Any, **changes: Any) -> Any:
    """The operator over a right table with the row 1: "one" of time 10."""
    attributes: dict[str, Any] = {
        "name": "join",
        "table": "r",
        "foreign_key_serde": serdes.STRING,
        "value_serde": serdes.JSON,
    }
    upper = TableMapValues(name="upper", parents=("r",), mapper=lambda value: value.upper() if value else None)
    node = SubscriptionJoin(**{**attributes, **changes})
    operator = site.build(subscription_join, node, others=[RIGHT, upper], spec=spec("rs"))
    site.tables["rs"].store.put_many([b"1", b"empty"], ["one", ""], [10, 10])
    return operator


def answers(site: Any) -> list[tuple[Any, ...]]:
    """Primary key, serialized foreign value and time of each answer."""
    return [(key, value.foreign_value, at) for key, value, at in site.forwarded()]


def test_answers_are_given_as_instructed(site, spec, records) -> None:
    operator = join(site, spec)
    keys = [b"1", b"9"]
    rows = [(key, subscription(number, f"{number}{key.decode()}"), 5) for key in keys for number in range(4)]
    operator.process(records(*rows, (None, subscription(TELL_ANYWAY, "n"), 5), (b"1", subscription(3, "late"), 20)))
    assert answers(site) == [
        (b"11", None, 10),
        (b"21", b'"one"', 10),
        (b"31", b'"one"', 10),
        (b"19", None, 5),
        (b"29", None, 5),
        (b"n", None, 5),
        (b"late", b'"one"', 20),
    ]


def test_an_answer_carries_what_tells_where_it_belongs(site, spec, records) -> None:
    join(site, spec).process(records((b"1", subscription(TELL_IF_THERE, "a", 8), 5), headers=[[("h", b"1")]]))
    [out] = site.out
    assert (out.values[0].value_hash, out.values[0].primary_partition) == (HASH, 8)
    assert (out.offsets, out.headers) == ([100], [[("h", b"1")]])


def test_the_right_row_is_computed_when_its_table_has_no_store(site, spec, records) -> None:
    rows = [(key, subscription(TELL_ANYWAY), 5) for key in (b"1", b"empty", b"9")]
    join(site, spec, table="upper").process(records(*rows))
    assert answers(site) == [(b"p", b'"ONE"', 10), (b"p", None, 5), (b"p", None, 5)]


def test_every_subscriber_of_a_row_is_left_out_when_its_table_cannot_be_computed(skipping, spec, records) -> None:
    operator = join(skipping, spec, table="upper")
    skipping.tables["rs"].store.put_many([b"bad"], [5], [10])
    rows = [(b"bad", subscription(TELL_ANYWAY, "a"), 5), (b"1", subscription(TELL_ANYWAY), 6)]
    operator.process(records(*rows, (b"bad", subscription(TELL_ANYWAY, "b"), 7)))
    assert answers(skipping) == [(b"p", b'"ONE"', 10)]
    assert [(node, key, offset) for _, node, key, _, _, offset in skipping.failures] == [
        ("join", "bad", 100),
        ("join", "bad", 102),
    ]


def test_the_mend_is_told_when_a_foreign_key_cannot_be_read(site, spec, records) -> None:
    operator = join(site, spec, foreign_key_serde=serdes.INT64)
    with pytest.raises(DeserializationError, match=r"refused by the serde int64 .* node=join.*reset the application"):
        operator.process(records((b"1", subscription(TELL_ANYWAY), 5)))


# ---- answers to updates of the right table -----------------------------------------------------------------


def foreign(site: Any, spec: Any, **changes: Any) -> Any:
    """The operator over subscriptions a and b to 1, c to 10."""
    attributes: dict[str, Any] = {
        "name": "foreign",
        "subscriptions": "subs",
        "foreign_key_serde": serdes.STRING,
        "value_serde": serdes.JSON,
    }
    operator = site.build(foreign_table_join, ForeignTableJoin(**{**attributes, **changes}), spec=subscriptions(spec))
    kept = [(b"1", "b"), (b"1", "a"), (b"10", "c")]
    store_keys = [prefix(key) + name.encode() for key, name in kept]
    site.stores["subs"].put_serialized(store_keys, [subscription(TELL_IF_THERE, name) for _, name in kept], [1, 2, 3])
    return operator


def test_all_subscribers_hear_of_an_update_in_the_order_of_their_keys(site, spec, changes) -> None:
    operator = foreign(site, spec)
    operator.process(
        changes(("1", "uno", "one", 5), ("9", "neun", None, 6), ("10", "diez", None, 7), ("1", None, "uno", 8))
    )
    [out] = site.out
    assert out.offsets == [0, 0, 2, 3, 3]
    assert {(value.value_hash, value.primary_partition) for value in out.values} == {(HASH, 3)}
    assert answers(site) == [
        (b"a", b'"uno"', 5),
        (b"b", b'"uno"', 5),
        (b"c", b'"diez"', 7),
        (b"a", None, 8),
        (b"b", None, 8),
    ]


def test_nothing_is_forwarded_when_nobody_subscribed(site, spec, changes) -> None:
    foreign(site, spec).process(changes(("9", "neun", None, 6)))
    assert site.out == []


def test_an_update_older_than_its_row_or_without_key_is_counted_and_left_out(site, spec) -> None:
    batch = ChangeBatch(["1", "10", None], ["x", "y", "z"], [5, 6, 7], None, None, [None] * 3, [False, True, True])
    foreign(site, spec).process(batch)
    assert answers(site) == [(b"c", b'"y"', 6)]
    assert (site.dropped(reason="not-latest"), site.dropped(reason="null-key")) == (1, 1)


def test_the_mend_is_told_when_a_right_value_does_not_fit_its_serde(site, spec, changes) -> None:
    operator = foreign(site, spec, value_serde=serdes.STRING)
    with pytest.raises(
        SerdeError, match=r"serde string cannot write a int as the value of the right table.*node=foreign"
    ):
        operator.process(changes(("1", 5, None, 5)))
