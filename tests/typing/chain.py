"""What a type checker makes of the DSL: read by mypy in test_typing, never run. ``# E: code`` marks a wanted error."""

from datetime import timedelta
from typing import Any, assert_type

import msgspec

from streamlib import (
    GlobalKTable,
    KGroupedStream,
    KGroupedTable,
    KStream,
    KTable,
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
assert_type(orders.split().branch(lambda _, order: True).default_branch(), dict[str, KStream[str, Order]])

by_customer = orders.group_by(lambda _, order: order.customer)
assert_type(by_customer, KGroupedStream[str, Order])
assert_type(by_customer.count(store="orders-per-customer"), KTable[str, int])
total = by_customer.aggregate(lambda: 0, lambda _, order, agg: agg + order.amount, value_serde=serdes.INT64)
assert_type(total, KTable[str, int])
per_minute = by_customer.windowed_by(TimeWindows.of(timedelta(minutes=1))).count()
assert_type(per_minute, KTable[Windowed[str], int])
assert_type(per_minute.to_stream(), KStream[Windowed[str], int])
assert_type(per_minute.to_stream(lambda windowed, _: windowed.key), KStream[str, int])

assert_type(total.filter(lambda _, amount: amount > 1), KTable[str, int])
assert_type(total.map_values(float, value_serde=serdes.FLOAT64), KTable[str, float])
assert_type(total.group_by(lambda key, amount: (amount, key)), KGroupedTable[int, str])
assert_type(total.group_by(lambda key, amount: (amount, key)).count(), KTable[int, int])

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
orders.merge(orders.map_values(str))  # E: arg-type
by_customer.aggregate(lambda: 0, lambda _, order, agg: order, value_serde=serdes.INT64)  # E: arg-type
by_customer.count(stor="x")  # E: call-arg
by_customer.count(store=1)  # E: arg-type
total.join(customers)  # E: attr-defined
