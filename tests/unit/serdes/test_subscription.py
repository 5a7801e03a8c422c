"""Subscriptions and responses, against the bytes of Kafka's own serdes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib import serdes
from streamlib.serdes.subscription import (
    RAW_RESPONSE,
    SERIALIZED_SUBSCRIPTION,
    SUBSCRIPTION,
    Subscription,
    SubscriptionResponse,
    primary_keys_of,
    responses_to,
)
from streamlib.serdes.subscription import subscription_response as response_serde

HASH = bytes.fromhex("5388829ffac8407614fb7657626751df")
TEXT_RESPONSE = response_serde(serdes.STRING)


@pytest.mark.parametrize(
    ("subscription", "data"),
    [
        (Subscription(0, HASH, b"p1", None), f"0000{HASH.hex()}7031"),
        (Subscription(0, HASH, b"p1", 2), f"0100{HASH.hex()}703100000002"),
        (Subscription(1, None, b"p1", None), "80017031"),
        (Subscription(1, None, b"p1", 2), "8101703100000002"),
        (Subscription(2, HASH, b"p1", 2), f"0102{HASH.hex()}703100000002"),
        (Subscription(3, HASH, b"", 300), f"0103{HASH.hex()}0000012c"),
    ],
)
def test_bytes_are_those_of_java_when_a_subscription_is_serialized(subscription: Subscription, data: str) -> None:
    assert SUBSCRIPTION.serialize(subscription).hex() == data
    assert SUBSCRIPTION.deserialize(bytes.fromhex(data)) == subscription


@pytest.mark.parametrize(
    ("response", "data"),
    [
        (SubscriptionResponse(HASH, "rv"), f"00{HASH.hex()}7276"),
        (SubscriptionResponse(HASH, None), f"00{HASH.hex()}"),
        (SubscriptionResponse(None, "rv"), "807276"),
        (SubscriptionResponse(None, None), "80"),
    ],
)
def test_bytes_are_those_of_java_when_a_response_is_serialized(response: SubscriptionResponse, data: str) -> None:
    assert TEXT_RESPONSE.serialize(response).hex() == data
    assert TEXT_RESPONSE.deserialize(bytes.fromhex(data)) == response


def test_a_response_is_the_same_when_its_value_was_serialized_before() -> None:
    assert RAW_RESPONSE.serialize(SubscriptionResponse(HASH, b"rv", 7)) == TEXT_RESPONSE.serialize(
        SubscriptionResponse(HASH, "rv")
    )


def test_a_value_of_no_bytes_is_no_value_when_it_comes_back() -> None:
    assert TEXT_RESPONSE.deserialize(TEXT_RESPONSE.serialize(SubscriptionResponse(HASH, ""))).foreign_value is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "version -1"),
        ("0203", "version 2, this application knows those up to 1: upgrade it"),
        ("01", "instruction -1"),
        ("0104", "instruction 4"),
        ("0103538882", "cut off after 3"),
        (f"0103{HASH.hex()}000000", "of 21 bytes is cut off"),
        ("8101000000", "of 5 bytes is cut off"),
    ],
)
def test_bytes_that_are_no_subscription_are_refused(data: str, message: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(ValueError, match=message):
        SUBSCRIPTION.deserialize(raw)
    with pytest.raises(ValueError, match=message):
        SERIALIZED_SUBSCRIPTION.deserialize(raw)
    with pytest.raises(ValueError, match=message):
        SERIALIZED_SUBSCRIPTION.deserialize_many([SUBSCRIPTION.serialize(Subscription(0, HASH, b"", 0)), None, raw])


@pytest.mark.parametrize(("data", "message"), [("", "version -1"), ("01", "version 1"), ("0053", "cut off after 1")])
def test_bytes_that_are_no_response_are_refused(data: str, message: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(ValueError, match=message):
        TEXT_RESPONSE.deserialize(raw)
    with pytest.raises(ValueError, match=message):
        TEXT_RESPONSE.deserialize_many([RAW_RESPONSE.serialize(SubscriptionResponse(HASH, b"rv")), raw])


HASHES = st.binary(min_size=16, max_size=16)
SUBSCRIPTIONS = st.builds(
    Subscription,
    st.integers(0, 3),
    st.none() | HASHES,
    st.binary(max_size=30),
    st.none() | st.integers(0, 2**31 - 1),
)
WITH_ALL_FIELDS = st.builds(Subscription, st.integers(0, 3), HASHES, st.binary(max_size=30), st.integers(0, 2**31 - 1))


@given(SUBSCRIPTIONS)
def test_a_subscription_comes_back_when_it_is_serialized(subscription: Subscription) -> None:
    assert SUBSCRIPTION.deserialize(SUBSCRIPTION.serialize(subscription)) == subscription


@given(st.lists(SUBSCRIPTIONS) | st.lists(WITH_ALL_FIELDS))
def test_a_column_of_subscriptions_gives_the_fields_of_each(subscriptions: list[Subscription]) -> None:
    column = [SUBSCRIPTION.serialize(each) for each in subscriptions]
    assert SERIALIZED_SUBSCRIPTION.deserialize_many([*column]) == SERIALIZED_SUBSCRIPTION.serialize_many([*column])
    assert primary_keys_of(column) == [each.primary_key for each in subscriptions]
    assert responses_to(column, [b"rv"] * len(column)) == [
        SubscriptionResponse(each.value_hash, b"rv", each.primary_partition) for each in subscriptions
    ]


RESPONSES = st.builds(SubscriptionResponse, HASHES, st.text(min_size=1))


@given(
    st.lists(RESPONSES)
    | st.lists(st.none() | st.builds(SubscriptionResponse, st.none() | HASHES, st.none() | st.text(min_size=1)))
)
def test_a_column_of_responses_is_that_of_each(responses: list[SubscriptionResponse | None]) -> None:
    column = [None if each is None else TEXT_RESPONSE.serialize(each) for each in responses]
    assert TEXT_RESPONSE.serialize_many(responses) == column
    assert TEXT_RESPONSE.deserialize_many(column) == responses
