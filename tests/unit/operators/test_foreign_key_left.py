from typing import Any

import pytest

from streamlib import serdes
from streamlib.errors import ProcessingError, SerdeError
from streamlib.operators.foreign_key_left import response_join, subscription_send
from streamlib.operators.murmur3 import hash128
from streamlib.record import ChangeBatch
from streamlib.serdes.subscription import (
    SERIALIZED_SUBSCRIPTION,
    Subscription,
    SubscriptionResponse,
    read_subscription,
)
from streamlib.topology.foreign_key_nodes import ResponseJoin, SubscriptionSend
from streamlib.topology.nodes import Sink, TableMapValues, TableSource

LEFT = TableSource(name="l", store="ls")
DELETE, DELETE_AND_TELL, TELL_ANYWAY, TELL_IF_THERE = range(4)


def send(*, left: bool = False, **changes: Any) -> SubscriptionSend:
    attributes: dict[str, Any] = {
        "name": "send",
        "foreign_key": lambda key, value: value.get("fk"),
        "left": left,
        "key_serde": serdes.STRING,
        "value_serde": serdes.JSON,
        "foreign_key_serde": serdes.STRING,
    }
    return SubscriptionSend(**{**attributes, **changes})


def sent(site: Any) -> list[tuple[bytes | None, int]]:
    """Foreign key and instruction of each subscription."""
    return [(key, read_subscription(value).instruction) for key, value, _ in site.forwarded()]


def fk(number: Any, **more: Any) -> dict[str, Any]:
    return {"fk": number, **more}


@pytest.mark.parametrize(
    ("new", "old", "inner", "left"),
    [
        (fk("1"), None, [(b"1", TELL_IF_THERE)], [(b"1", TELL_ANYWAY)]),
        (fk("1", v=2), fk("1"), [(b"1", TELL_IF_THERE)], [(b"1", TELL_ANYWAY)]),
        (fk("2"), fk("1"), [(b"1", DELETE), (b"2", TELL_ANYWAY)], [(b"1", DELETE), (b"2", TELL_ANYWAY)]),
        (fk(None), fk("1"), [(b"1", DELETE_AND_TELL)], [(b"1", DELETE), (None, TELL_ANYWAY)]),
        (fk("1"), fk(None), [(b"1", TELL_IF_THERE)], [(b"1", TELL_ANYWAY)]),
        (fk(None), fk(None), [], [(None, TELL_ANYWAY)]),
        (fk(None), None, [], [(None, TELL_ANYWAY)]),
        (None, fk("1"), [(b"1", DELETE_AND_TELL)], [(b"1", DELETE), (None, TELL_ANYWAY)]),
        (None, fk(None), [], [(None, TELL_ANYWAY)]),
        (None, None, [], []),
        (fk(""), fk(None), [(b"", TELL_IF_THERE)], [(b"", TELL_ANYWAY)]),
    ],
)
def test_subscriptions_follow_the_foreign_keys_before_and_after_an_update(site, changes, new, old, inner, left) -> None:
    for kind, wanted in ((False, inner), (True, left)):
        site.build(subscription_send, send(left=kind)).process(changes(("a", new, old, 5)))
        assert sent(site) == wanted
    without = new is not None and new["fk"] is None
    assert site.dropped(node="send", reason="null-foreign-key") == without == site.dropped()


def test_a_subscription_names_its_row_by_hash_key_and_partition(site, changes) -> None:
    site.partition = 7
    operator = site.build(subscription_send, send())
    operator.process(changes(("a", fk("2"), fk("1"), 5), ("b", None, fk("3"), 6)))
    value_hash = hash128(b'{"fk":"2"}')
    subscriptions = [(read_subscription(value), at) for _, value, at in site.forwarded()]
    assert [(s.value_hash, s.primary_key, s.primary_partition, at) for s, at in subscriptions] == [
        (value_hash, b"a", 7, 5),
        (value_hash, b"a", 7, 5),
        (None, b"b", 7, 6),
    ]


def test_foreign_keys_are_equal_when_their_bytes_are(site, changes) -> None:
    operator = site.build(subscription_send, send(foreign_key_serde=serdes.JSON))
    operator.process(changes(("a", fk({"x": [1]}), fk({"x": [1]}), 5)))
    assert sent(site) == [(b'{"x":[1]}', TELL_IF_THERE)]


def test_offsets_and_headers_go_with_each_subscription(site, changes) -> None:
    batch = changes(("x", fk(None), None, 1), ("a", fk("2"), fk("1"), 5))
    batch.headers = [[], [("h", b"1")]]
    site.build(subscription_send, send()).process(batch)
    [out] = site.out
    assert (out.offsets, out.headers) == ([1, 1], [[("h", b"1")]] * 2)


def test_an_update_older_than_its_row_is_counted_and_left_out(site) -> None:
    values, olds = [fk("1"), fk("2")], [None, fk("3")]
    site.build(subscription_send, send()).process(
        ChangeBatch(["a", "b"], values, [5, 6], None, None, olds, [False, True])
    )
    assert sent(site) == [(b"3", DELETE), (b"2", TELL_ANYWAY)]
    assert site.dropped(node="send", reason="not-latest") == 1


def test_only_the_row_is_left_out_when_the_foreign_key_function_raises(skipping, changes) -> None:
    operator = skipping.build(subscription_send, send(foreign_key=lambda key, value: value["fk"]))
    operator.process(changes(("a", {}, None, 5), ("b", fk("1"), None, 6), ("c", fk("1"), {}, 7)))
    assert sent(skipping) == [(b"1", TELL_IF_THERE)]
    assert skipping.failures == [
        ("KeyError('fk')", "send", "a", {}, 5, 0),
        ("KeyError('fk')", "send", "c", fk("1"), 7, 2),
    ]


def test_the_row_is_named_when_the_foreign_key_function_raises(site, changes) -> None:
    operator = site.build(subscription_send, send(foreign_key=lambda key, value: value["fk"]))
    with pytest.raises(ProcessingError, match="send failed at offset 0"):
        operator.process(changes(("a", {}, None, 5)))


def test_the_mend_is_told_when_a_foreign_key_is_no_key_of_the_right_table(site, changes) -> None:
    operator = site.build(subscription_send, send())
    with pytest.raises(SerdeError, match=r"serde string cannot write a int as the foreign key: .*node=send\. Name"):
        operator.process(changes(("a", fk("1"), None, 5), ("b", fk(1), None, 5)))
    assert site.out == []


# ---- answers -----------------------------------------------------------------------------------------------


def resolver(site: Any, spec: Any, *, left: bool = False, **changes: Any) -> Any:
    """The operator over a left table with the row a: {"v": 1}."""
    attributes: dict[str, Any] = {
        "name": "resolver",
        "table": "l",
        "value_serde": serdes.JSON,
        "joiner": lambda left, right: [left["v"], right],
        "left": left,
        "send": "send",
        "subscription_sink": "sink",
        "ask_again": True,
    }
    node = ResponseJoin(**{**attributes, **changes})
    upper = TableMapValues(name="upper", parents=("l",), mapper=lambda value: {"v": value["v"] + 1})
    others = [LEFT, upper, send(foreign_key=lambda key, value: value.get("fk") or None), SINK]
    operator = site.build(response_join, node, others=others, spec=spec("ls"))
    site.tables["ls"].store.put_many([b"a"], [{"v": 1}], [10])
    return operator


SINK = Sink(name="sink", topic="subscriptions", key_serde=serdes.BYTES, value_serde=SERIALIZED_SUBSCRIPTION)
CURRENT, LATE = hash128(b'{"v":1}'), hash128(b'{"v":0}')


def test_only_answers_to_the_current_row_are_joined(site, spec, records) -> None:
    operator = resolver(site, spec)
    operator.process(
        records(
            ("a", SubscriptionResponse(LATE, "old"), 1),
            ("a", SubscriptionResponse(CURRENT, "new"), 2),
            ("a", SubscriptionResponse(None, None), 3),
            ("gone", SubscriptionResponse(CURRENT, "x"), 4),
            ("gone", SubscriptionResponse(None, None), 5),
        )
    )
    assert site.forwarded() == [("a", [1, "new"], 2), ("gone", None, 5)]
    assert site.dropped(node="resolver", reason="late-response") == 3 == site.dropped()


@pytest.mark.parametrize(("left", "result"), [(False, None), (True, [1, None])])
def test_a_row_without_match_comes_out_only_of_a_left_join(site, spec, records, left: bool, result: Any) -> None:
    resolver(site, spec, left=left).process(records(("a", SubscriptionResponse(CURRENT, None), 2)))
    assert site.forwarded() == [("a", result, 2)]


def test_the_left_row_is_computed_when_its_table_has_no_store(site, spec, records) -> None:
    operator = resolver(site, spec, table="upper")
    operator.process(records(("a", SubscriptionResponse(hash128(b'{"v":2}'), "x"), 2)))
    assert site.forwarded() == [("a", [2, "x"], 2)]


def test_only_the_answer_is_left_out_when_the_joiner_raises(skipping, spec, records) -> None:
    operator = resolver(skipping, spec, joiner=lambda left, right: 1 // right)
    operator.process(records(("a", SubscriptionResponse(CURRENT, 0), 2), ("a", SubscriptionResponse(CURRENT, 1), 3)))
    assert skipping.forwarded() == [("a", 1, 3)]
    assert [failure[1:] for failure in skipping.failures] == [("resolver", "a", 0, 2, 100)]


def test_an_answer_without_key_or_value_is_counted(site, spec, records) -> None:
    resolver(site, spec).process(records((None, SubscriptionResponse(None, None), 1), ("a", None, 2)))
    assert site.out == []
    assert (site.dropped(reason="null-key"), site.dropped(reason="null-value")) == (1, 1)


def test_the_current_row_is_asked_for_again_once_when_late_answers_have_no_value(site, spec, records) -> None:
    operator = resolver(site, spec)
    site.partition = 7
    site.tables["ls"].store.put_many([b"b"], [{"v": 2, "fk": "x"}], [20])
    nothing = SubscriptionResponse(LATE, None)
    operator.process(records(("b", nothing, 1), ("a", nothing, 2), ("b", nothing, 3), ("gone", nothing, 4)))
    [(sink, batch)] = site.sent
    assert (sink, batch.keys, batch.timestamps) == ("sink", [b"x", None], [20, 10])
    assert [read_subscription(value) for value in batch.values] == [
        Subscription(TELL_ANYWAY, hash128(b'{"v":2,"fk":"x"}'), b"b", 7),
        Subscription(TELL_ANYWAY, CURRENT, b"a", 7),
    ]


def test_nobody_is_asked_again_when_the_join_does_not_say_so(site, spec, records) -> None:
    resolver(site, spec, ask_again=False).process(records(("a", SubscriptionResponse(LATE, None), 1)))
    assert site.sent == []


@pytest.mark.parametrize(
    ("left", "response"),
    [
        (False, SubscriptionResponse(LATE, "value")),
        (False, SubscriptionResponse(CURRENT, None)),
        (True, SubscriptionResponse(LATE, None)),
    ],
)
def test_nobody_is_asked_again_when_an_answer_is_sure_to_come(site, spec, records, left, response) -> None:
    resolver(site, spec, left=left).process(records(("a", response, 1)))
    assert site.sent == []


def test_the_row_is_named_when_its_foreign_key_fails_as_it_is_asked_for_again(skipping, spec, records) -> None:
    operator = resolver(skipping, spec)
    skipping.tables["ls"].store.put_many([b"a"], ["text"], [10])
    operator.process(records(("a", SubscriptionResponse(LATE, None), 1)))
    assert [failure[1:] for failure in skipping.failures] == [("send", "a", "text", 10, None)]
    assert skipping.sent == []
