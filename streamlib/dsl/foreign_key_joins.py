"""Joins of two tables by a key of the right one that the left rows hold.

Next: `topology/foreign_key_nodes`, what is left of them in the plan.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Generic, TypedDict, TypeVar

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.options import MaterializedValues, StoreOptions, ValueOptions, values_and_store
from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.primitives import BYTES
from streamlib.serdes.subscription import (
    RAW_RESPONSE,
    SERIALIZED_SUBSCRIPTION,
    SUBSCRIPTION,
    SubscriptionResponse,
    subscription_response,
)
from streamlib.topology.foreign_key_nodes import (
    ForeignTableJoin,
    ResponseJoin,
    SubscriptionJoin,
    SubscriptionReceive,
    SubscriptionSend,
)
from streamlib.topology.nodes import ColumnPartitioner, Partitioner, Sink, Source, TableSource
from streamlib.topology.subtopologies import RepartitionTopic

V = TypeVar("V")

PREFIX = "KTABLE-FK-JOIN-"


class TableJoined(TypedDict, total=False):
    """How a foreign-key join goes over its internal topics: for tables that are not partitioned by key.

    Attributes:
        name: Of its nodes, topics and stores, each with a suffix.
        partitioner: ``(key, None, partitions)`` to the partition of a row of this table. Without one, results go to the
            partition that the row was read from.
        other_partitioner: ``(foreign key, None, partitions)`` to the partition of a row of the other table; the key is
            None for rows without one. Without one it is chosen by key.
        ask_again: Inner joins only: ask once more for a row whose answer came too late to delete an old result. Kafka
            Streams does not (the default): while updates of a row follow one another faster than answers come, a row
            that moves to a key without a match may keep its old result for ever.
    """

    name: str | None
    partitioner: Partitioner | None
    other_partitioner: Partitioner | None
    ask_again: bool


class ForeignKeyJoined(TableJoined, MaterializedValues[V], Generic[V], total=False):
    """Options of foreign-key joins."""


@dataclass(frozen=True)
class ForeignKeyJoin:
    """What a foreign-key join is told.

    Attributes:
        foreign_key: ``(key, value)`` of a left row to the key of a right one, or None.
        joiner: The user's function.
        left: Whether rows without a match come out too.
        partitioner: Of the left table, if it is not by key.
        other_partitioner: Of the right table.
        values: Name of the join, serde of its results.
        store: How results are stored.
        ask_again: Whether late answers make an inner join ask again.
    """

    foreign_key: Callable[[Any, Any], Any]
    joiner: Callable[[Any, Any], Any]
    left: bool
    partitioner: Partitioner | None
    other_partitioner: Partitioner | None
    values: ValueOptions
    store: StoreOptions
    ask_again: bool


def foreign_key_join(
    foreign_key: Callable[[Any, Any], Any],
    joiner: Callable[[Any, Any], Any],
    options: ForeignKeyJoined[Any],
    *,
    left: bool,
) -> ForeignKeyJoin:
    """The description of a join.

    Raises:
        TypeError: An unknown option.
    """
    own = {"partitioner", "other_partitioner", "ask_again"}
    rest: Any = {name: value for name, value in options.items() if name not in own}
    values, store = values_and_store(rest)
    return ForeignKeyJoin(
        foreign_key,
        joiner,
        left,
        options.get("partitioner"),
        options.get("other_partitioner"),
        values,
        store,
        options.get("ask_again", False),
    )


@dataclass(frozen=True)
class JoinNames:
    """The names of one join's parts; taking them moves the counter on as in Java."""

    subscription_topic: str
    send: str
    subscription_sink: str
    subscription_source: str
    store: str
    receive: str
    join: str
    foreign_join: str
    response_topic: str
    response_sink: str
    response_source: str
    resolver: str
    result: str

    @classmethod
    def of(cls, graph: Graph, given: str | None) -> "JoinNames":
        """The next names of a builder, or those after the name the user gave."""
        if given is not None:
            graph.check_name(given, "the name")

        def name(suffix: str, prefix: str) -> str:
            generated = graph.names.node(prefix)
            return generated if given is None else f"{given}-{suffix}"

        registration, processor = f"{PREFIX}SUBSCRIPTION-REGISTRATION-", f"{PREFIX}SUBSCRIPTION-PROCESSOR-"
        return cls(
            subscription_topic=name("subscription-registration", registration) + "-topic",
            send=name("subscription-registration-processor", registration),
            subscription_sink=name("subscription-registration-sink", "KTABLE-SINK-"),
            subscription_source=name("subscription-registration-source", "KTABLE-SOURCE-"),
            store=name("subscription-store", f"{PREFIX}SUBSCRIPTION-STATE-STORE-"),
            receive=name("subscription-receive", processor),
            join=name("subscription-join-foreign", processor),
            foreign_join=name("foreign-join-subscription", processor),
            response_topic=name("subscription-response", f"{PREFIX}SUBSCRIPTION-RESPONSE-") + "-topic",
            response_sink=name("subscription-response-sink", "KTABLE-SINK-"),
            response_source=name("subscription-response-source", "KTABLE-SOURCE-"),
            resolver=name("subscription-response-resolver", f"{PREFIX}SUBSCRIPTION-RESPONSE-RESOLVER-PROCESSOR-"),
            result=name("result", f"{PREFIX}OUTPUT-"),
        )


def join_by_foreign_key(left: Flow, right: Flow, join: ForeignKeyJoin) -> tuple[Flow, str | None]:
    """The flow of the joined table, and the name of its store if the user named one.

    Both tables get stores if they have none. A number for the name of the result's store is taken in any case.
    Source: KTableImpl.doJoinOnForeignKey.
    """
    graph = left.graph
    names = JoinNames.of(graph, join.values.name)
    if graph.is_foreign(right.graph, names.result):
        return left, None
    left_table, right_table = left.step, right.step
    assert isinstance(left_table, TableStep)
    assert isinstance(right_table, TableStep)
    right_table.send_old_values(force=True)
    left_table.send_old_values(force=True)
    subscribed = _subscriptions(left, right, join, names)
    responses = _responses(right, subscribed, join, names, left.key_serde)
    graph.copartitioned += [right.sources | {names.subscription_source}, left.sources | {names.response_source}]
    resolver = ResponseJoin(
        name=names.resolver,
        table=left_table.output,
        stores=left_table.view(),
        value_serde=left.value_serde,
        joiner=join.joiner,
        left=join.left,
        send=names.send,
        subscription_sink=names.subscription_sink,
        ask_again=join.ask_again,
        on_error=join.values.on_error,
    )
    resolved = Step([resolver])
    graph.add(resolved, responses)
    serde = left.new_value_serde(join.values.value_serde, join.values.name or "join")
    spec = graph.store(join.store, f"{PREFIX}OUTPUT-", left.key_serde, serde)
    result = TableStep([TableSource(name=names.result)], spec=spec)
    if join.store.store_name is not None:
        result.materialize()
    graph.add(result, resolved)
    flow = replace(left, sources=left.sources | {names.response_source}).after(result, value_serde=serde)
    return flow, join.store.store_name


def _subscriptions(left: Flow, right: Flow, join: ForeignKeyJoin, names: JoinNames) -> Step:
    """The step that receives and keeps the left table's subscriptions, beside the right table."""
    graph, key_serde = left.graph, right.key_serde
    send = SubscriptionSend(
        name=names.send,
        foreign_key=join.foreign_key,
        left=join.left,
        key_serde=left.key_serde,
        value_serde=left.value_serde,
        foreign_key_serde=key_serde,
        on_error=join.values.on_error,
    )
    sink = Sink(
        name=names.subscription_sink,
        parents=(names.send,),
        topic=names.subscription_topic,
        # Foreign keys travel serialized; they go where the right table's records of that key go.
        key_serde=replace(BYTES, partition_bytes=key_serde.partition_bytes),
        value_serde=SERIALIZED_SUBSCRIPTION,
        partitioner=_by_object(join.other_partitioner, key_serde),
    )
    topic = names.subscription_topic
    source = Source(
        name=names.subscription_source, topics=(topic,), key_serde=BYTES, value_serde=SERIALIZED_SUBSCRIPTION
    )
    sent = Step([send, sink, source], source_kind="repartition", repartition_topic=RepartitionTopic(topic))
    graph.add(sent, left.step)
    spec = graph.store(StoreOptions(store=names.store, caching=False), "", BYTES, SUBSCRIPTION)
    node = SubscriptionReceive(name=names.receive, stores=(names.store,), subscriptions=names.store)
    received = Step([node], stores=[spec])
    graph.add(received, sent)
    return received


def _responses(right: Flow, subscribed: Step, join: ForeignKeyJoin, names: JoinNames, key_serde: AnySerde) -> Step:
    """The step that takes the answers back to the left table's partitions."""
    graph, right_table = right.graph, right.step
    assert isinstance(right_table, TableStep)
    answer = SubscriptionJoin(
        name=names.join,
        table=right_table.output,
        stores=right_table.view(),
        foreign_key_serde=right.key_serde,
        value_serde=right.value_serde,
    )
    answered = Step([answer])
    graph.add(answered, subscribed)
    update = ForeignTableJoin(
        name=names.foreign_join,
        stores=(names.store,),
        subscriptions=names.store,
        foreign_key_serde=right.key_serde,
        value_serde=right.value_serde,
    )
    updated = Step([update])
    graph.add(updated, right_table)
    topic = names.response_topic
    sink = Sink(
        name=names.response_sink,
        topic=topic,
        key_serde=BYTES,
        value_serde=RAW_RESPONSE,
        partitioner=_by_object(join.partitioner, key_serde) or PrimaryPartition(),
    )
    value_serde = subscription_response(right.value_serde)
    source = Source(name=names.response_source, topics=(topic,), key_serde=key_serde, value_serde=value_serde)
    responses = Step([sink, source], source_kind="repartition", repartition_topic=RepartitionTopic(topic))
    graph.add(responses, answered, updated)
    return responses


class PrimaryPartition(ColumnPartitioner):
    """The partition that the subscription came from; None, which means by key, if it did not say so."""

    def partitions(self, values: list[SubscriptionResponse]) -> list[int | None]:
        """Where responses go."""
        return [response.primary_partition for response in values]


def _by_object(partitioner: Partitioner | None, serde: Serde[Any]) -> Partitioner | None:
    """A user's partitioner, which knows objects and no values, for serialized keys."""
    if partitioner is None or not callable(partitioner):
        return partitioner
    decode = serde.deserialize

    def choose(key: bytes | None, _value: object, partitions: int) -> int | None:
        chosen = partitioner(None if key is None else decode(key), None, partitions)
        if not isinstance(chosen, Collection):
            return chosen
        if len(chosen) != 1:
            msg = f"returned {chosen!r}, but a foreign-key join sends each row to exactly one partition"
            raise ValueError(msg)
        return next(iter(chosen))

    return choose
