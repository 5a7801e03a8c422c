"""What a type checker makes of the DSL: read by mypy in test_typing, never run. ``# E: code`` marks a wanted error."""

from datetime import timedelta
from typing import Any, assert_type

import msgspec

from streamlib import (
    CogroupedKStream,
    GlobalKTable,
    KGroupedStream,
    KGroupedTable,
    KStream,
    KTable,
    Record,
    SessionWindows,
    StreamsBuilder,
    TimeWindows,
    Windowed,
    serdes,
)


class Order(msgspec.Struct):
    customer: str
    amount: int


class Customer(msgspec.Struct):
    name: str


builder = StreamsBuilder()
orders = builder.stream("orders", serdes.STRING, serdes.json(Order))
customers = builder.table("customers", serdes.STRING, serdes.json(Customer), store="customers")
rates = builder.global_table("rates", serdes.INT64, serdes.FLOAT64)

assert_type(orders, KStream[str, Order])
assert_type(customers, KTable[str, Customer])
assert_type(rates, GlobalKTable[int, float])
assert_type(builder.stream("a", value_serde=serdes.INT64), KStream[Any, int])
assert_type(builder.stream("a"), KStream[Any, Any])

assert_type(orders.filter(lambda key, order: order.amount > 1), KStream[str, Order])
assert_type(orders.map(lambda key, order: (order.amount, key)), KStream[int, str])
assert_type(orders.map_values(lambda order: order.amount), KStream[str, int])
assert_type(orders.map_values(lambda key, order: (key, order), with_key=True), KStream[str, tuple[str, Order]])
assert_type(orders.flat_map_values(lambda order: order.customer.split()), KStream[str, str])
assert_type(orders.select_key(lambda _, order: order.amount, key_serde=serdes.INT64), KStream[int, Order])
assert_type(orders.deduplicate(timedelta(minutes=1)), KStream[str, Order])
by_amount = orders.deduplicate(timedelta(minutes=1), key=lambda _, order: order.amount, id_serde=serdes.INT64)
assert_type(by_amount, KStream[str, Order])
orders.deduplicate(timedelta(minutes=1), key=lambda _, order: order.amount, id_serde=serdes.STRING)  # E: arg-type
assert_type(orders.split().branch(lambda _, order: True).default_branch(), dict[str, KStream[str, Order]])


async def found(order: Order) -> Customer:
    return Customer(order.customer)


async def paired(key: str, order: Order) -> tuple[int, str]:
    return order.amount, key


async def doubled(record: Record[str, Order]) -> list[Record[str, int]]:
    return [record.with_value(record.value.amount)] * 2


assert_type(orders.map_values_async(found, concurrency=8, value_serde=serdes.json(Customer)), KStream[str, Customer])
assert_type(orders.map_values_async(paired, with_key=True), KStream[str, tuple[int, str]])
assert_type(orders.map_async(paired, key_serde=serdes.INT64, ordered=False), KStream[int, str])
assert_type(orders.process_async(doubled, timeout=timedelta(seconds=1)), KStream[str, int])
orders.map_values_async(lambda order: order.amount)  # E: arg-type
orders.map_values_async(found, concurency=8)  # E: call-overload

by_customer = orders.group_by(lambda _, order: order.customer)
assert_type(by_customer, KGroupedStream[str, Order])
assert_type(by_customer.count(store="orders-per-customer"), KTable[str, int])
total = by_customer.aggregate(lambda: 0, lambda _, order, agg: agg + order.amount, value_serde=serdes.INT64)
assert_type(total, KTable[str, int])
per_minute = by_customer.windowed_by(TimeWindows.of(timedelta(minutes=1))).count()
assert_type(per_minute, KTable[Windowed[str], int])
assert_type(per_minute.to_stream(), KStream[Windowed[str], int])
late_counts = by_customer.windowed_by(TimeWindows.of(timedelta(minutes=1)))
late_counts.count(late_to="late")
late_counts.count(late_to=lambda late: assert_type(late, KStream[str, Order]))
late_counts.count(late_to=5)  # E: arg-type
sessions = by_customer.windowed_by(SessionWindows.of(timedelta(minutes=1)))
assert_type(sessions.count(), KTable[Windowed[str], int])
assert_type(sessions.reduce(lambda one, other: one), KTable[Windowed[str], Order])
visits = sessions.aggregate(
    lambda: 0,
    lambda _, order, agg: agg + order.amount,
    lambda _, one, other: one + other,
    value_serde=serdes.INT64,
)
assert_type(visits, KTable[Windowed[str], int])
refunds = builder.stream("refunds", serdes.STRING, serdes.FLOAT64).group_by_key()
spent: CogroupedKStream[str, float] = by_customer.cogroup(lambda _, order, agg: agg + order.amount)
spent = spent.cogroup(refunds, lambda _, refund, agg: agg - refund)
assert_type(spent.aggregate(float), KTable[str, float])
assert_type(spent.windowed_by(TimeWindows.of(timedelta(minutes=1))).aggregate(float), KTable[Windowed[str], float])
spent_in_sessions = spent.windowed_by(SessionWindows.of(timedelta(minutes=1)))
assert_type(spent_in_sessions.aggregate(float, lambda _, one, other: one + other), KTable[Windowed[str], float])
assert_type(per_minute.to_stream(lambda windowed, _: windowed.key), KStream[str, int])

assert_type(total.filter(lambda _, amount: amount > 1), KTable[str, int])
assert_type(total.map_values(float, value_serde=serdes.FLOAT64), KTable[str, float])
assert_type(total.group_by(lambda key, amount: (amount, key)), KGroupedTable[int, str])
assert_type(total.group_by(lambda key, amount: (amount, key)).count(), KTable[int, int])

assert_type(total.join(customers, lambda amount, customer: (amount, customer)), KTable[str, tuple[int, Customer]])
assert_type(total.left_join(customers, lambda amount, customer: customer), KTable[str, Customer | None])
assert_type(customers.outer_join(total, lambda customer, amount: amount, store="both"), KTable[str, int | None])
assert_type(orders.join(customers, lambda order, customer: (order, customer)), KStream[str, tuple[Order, Customer]])
assert_type(
    orders.left_join(customers, lambda key, order, customer: customer, with_key=True), KStream[str, Customer | None]
)
assert_type(
    orders.join(rates, lambda order, rate: order.amount * rate, key_selector=lambda _, order: order.amount),
    KStream[str, float],
)

orders.filter(lambda key, order: order.price)  # E: attr-defined
orders.map_values(lambda order: order.amount, value_serde=serdes.STRING)  # E: arg-type
orders.map_values(lambda key, order: order)  # E: misc
orders.map_values(lambda order: order, nam="x")  # E: call-overload
orders.join(customers, lambda order, customer: customer.nam)  # E: attr-defined
orders.join(rates, lambda order, rate: rate)  # E: call-overload
orders.left_join(customers, lambda order, customer: customer.name)  # E: union-attr
total.join(customers, lambda amount, customer: customer.nam)  # E: attr-defined
total.left_join(customers, lambda amount, customer: customer.name)  # E: union-attr
total.outer_join(customers, lambda amount, customer: amount + 1)  # E: operator
total.join(orders, lambda amount, order: amount)  # E: call-overload
total.join(per_minute, lambda amount, number: amount)  # E: arg-type
orders.merge(orders.map_values(str))  # E: arg-type
by_customer.aggregate(lambda: 0, lambda _, order, agg: order, value_serde=serdes.INT64)  # E: arg-type
sessions.aggregate(lambda: 0, lambda _, o, agg: agg, lambda _, one, other: "x", value_serde=serdes.INT64)  # E: arg-type
spent.cogroup(refunds, lambda _, refund, agg: agg - refund.amount)  # E: attr-defined
spent.windowed_by(timedelta(minutes=1))  # E: call-overload
by_customer.count(stor="x")  # E: call-arg
by_customer.count(store=1)  # E: arg-type
total.join(customers)  # E: call-overload
