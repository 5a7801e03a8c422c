"""The right side of a foreign-key join: it keeps subscriptions, and answers them now and when a right row changes.

Subscriptions are kept under ``length of foreign key int32 | foreign key | primary key``, so those to one right row lie
side by side. Foreign and primary keys stay serialized on this side, and a right value is serialized once for all its
subscribers.

Source: SubscriptionReceiveProcessorSupplier, SubscriptionJoinProcessorSupplier, ForeignTableJoinProcessorSupplier,
CombinedKeySchema. Next: `foreign_key_left`, where answers go.
"""

from struct import Struct
from typing import Any, cast

from streamlib.errors import DeserializationError
from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.foreign_key_left import serialized, serialized_one
from streamlib.operators.getters import TableGetter
from streamlib.operators.selection import picked, rows_of, with_keys, with_values
from streamlib.operators.table_rows import Row
from streamlib.operators.wiring import Wiring
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import AnySerde, any_none
from streamlib.serdes.subscription import (
    DELETE_KEY_AND_PROPAGATE,
    DELETE_KEY_NO_PROPAGATE,
    INSTRUCTION,
    PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE,
    PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE,
    Subscription,
    SubscriptionResponse,
    primary_keys_of,
    read_subscription,
    responses_to,
)
from streamlib.state.facade import after_prefix
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.topology.foreign_key_nodes import ForeignTableJoin, SubscriptionJoin, SubscriptionReceive

NO_ROW: tuple[bytes | None, int] = (None, -1)
"""Value and timestamp where the right table has no row."""

pack_length = Struct(">i").pack


def prefix(foreign_key: bytes) -> bytes:
    """What the store keys of all subscriptions to a right row begin with."""
    return pack_length(len(foreign_key)) + foreign_key


class SubscriptionReceiveOperator:
    """Keeps subscriptions, or forgets them, and passes them on.

    Args:
        node: What to do.
        store: Where they are kept.
        context: Counters.
        forward: Where all subscriptions go.
    """

    def __init__(
        self,
        node: SubscriptionReceive,
        store: KeyValueTimestampedStore[Subscription],
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._store = store
        self._metrics = context.metrics
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Take subscriptions by serialized foreign keys; without one only questions, which are not kept."""
        batch = with_values(batch, self._node.name, self._metrics)
        if any_none(batch.keys):
            batch = self._with_keys_or_questions(batch)
            kept = rows_of(batch, [key is not None for key in batch.keys])
        else:
            kept = batch
        if len(kept):
            primary_keys = primary_keys_of(kept.values)
            keys = [prefix(key) + primary for key, primary in zip(kept.keys, primary_keys, strict=True)]
            values = [None if data[INSTRUCTION] <= DELETE_KEY_AND_PROPAGATE else data for data in kept.values]
            self._store.put_serialized(keys, values, kept.timestamps, kept.headers)
        if len(batch):
            self._forward(batch)

    def _with_keys_or_questions(self, batch: RecordBatch) -> RecordBatch:
        rows = [
            row
            for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True))
            if key is not None or value[INSTRUCTION] == PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE
        ]
        if len(rows) == len(batch):
            return batch
        self._metrics.dropped(self._node.name, "null-key", len(batch) - len(rows))
        return picked(batch, rows)


class SubscriptionJoinOperator:
    """Answers subscriptions with the right table's current rows.

    Args:
        node: What to do.
        getter: Reads the right table.
        context: Errors.
        forward: Where answers go, under serialized primary keys.
    """

    def __init__(self, node: SubscriptionJoin, getter: TableGetter, context: OperatorContext, forward: Forward) -> None:
        self._node = node
        self._getter = getter
        self._errors = context.errors
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Answer as each subscription instructs; an answer has the later timestamp of both sides."""
        asking = [data[INSTRUCTION] != DELETE_KEY_NO_PROPAGATE for data in batch.values]
        if not all(asking):
            batch = rows_of(batch, asking)
        found = self._fetch(batch)
        known: dict[bytes | None, tuple[bytes | None, int]] = {None: NO_ROW}
        rows: list[int] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []
        columns = zip(batch.keys, batch.values, batch.timestamps, strict=True)
        for row, (foreign_key, subscription, timestamp) in enumerate(columns):
            instruction = subscription[INSTRUCTION]
            right = known.get(foreign_key)
            if right is None:
                key, stored = found[foreign_key]
                try:
                    current = self._getter.compute(key, stored)
                except Exception as error:
                    offset = None if batch.offsets is None else batch.offsets[row]
                    self._errors.failed(error, self._node.name, key, read_subscription(subscription), timestamp, offset)
                    continue
                right = known[foreign_key] = self._serialized(current)
            value, changed_at = right
            if value is None and instruction == PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE:
                continue
            if instruction == DELETE_KEY_AND_PROPAGATE:
                value = None
            rows.append(row)
            values.append(value)
            timestamps.append(timestamp if timestamp > changed_at else changed_at)
        if not rows:
            return
        if len(rows) < len(batch):
            batch = picked(batch, rows)
        keys, responses = primary_keys_of(batch.values), responses_to(batch.values, values)
        self._forward(RecordBatch(keys, responses, timestamps, batch.offsets, batch.headers))

    def _fetch(self, batch: RecordBatch) -> dict[bytes, tuple[Any, Any]]:
        """For each foreign key, the key itself and what the getter has of its row."""
        raws: list[Any] = [raw for raw in dict.fromkeys(batch.keys) if raw is not None]
        keys = deserialized(self._node.foreign_key_serde, raws, self._node.name)
        return dict(zip(raws, zip(keys, self._getter.fetch(keys), strict=True), strict=True))

    def _serialized(self, row: Row | None) -> tuple[bytes | None, int]:
        """The bytes of a right row's value, and its timestamp."""
        if row is None:
            return NO_ROW
        node = self._node
        return serialized_one(node.value_serde, row[0], node.name, "value of the right table"), row[1]


class ForeignTableJoinOperator:
    """Answers all subscriptions to the rows of the right table that change.

    Args:
        node: What to do.
        store: Where subscriptions are kept.
        context: Counters.
        forward: Where answers go, under serialized primary keys.
    """

    def __init__(
        self,
        node: ForeignTableJoin,
        store: KeyValueTimestampedStore[Subscription],
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._store = store
        self._metrics = context.metrics
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Answer with the new values, in the order of the updates, then of the primary keys' bytes."""
        assert isinstance(batch, ChangeBatch)
        node = self._node
        changes = self._latest(batch)
        foreign_keys = serialized(node.foreign_key_serde, changes.keys, node.name, "key of the right table")
        rows: list[int] = []
        keys: list[Any] = []
        responses: list[Any] = []
        for row, (foreign_key, new) in enumerate(zip(foreign_keys, changes.values, strict=True)):
            start = prefix(cast("bytes", foreign_key))
            subscribers = list(self._store.scan(start, after_prefix(start)))
            if not subscribers:
                continue
            value = serialized_one(node.value_serde, new, node.name, "value of the right table")
            skip = len(start)
            for key, subscription, _ in subscribers:
                rows.append(row)
                keys.append(key[skip:])
                responses.append(SubscriptionResponse(subscription.value_hash, value, subscription.primary_partition))
        if rows:
            self._forward(picked(changes, rows, responses, keys))

    def _latest(self, batch: ChangeBatch) -> RecordBatch:
        """The updates that count: with a key, and the newest of their key."""
        latest = batch.latest
        if latest is None or all(latest):
            return with_keys(batch, self._node.name, self._metrics)
        rows = [row for row, is_latest in enumerate(latest) if is_latest]
        self._metrics.dropped(self._node.name, "not-latest", len(batch) - len(rows))
        return with_keys(picked(batch, rows), self._node.name, self._metrics)


def deserialized(serde: AnySerde, raws: list[bytes | None], node: str) -> list[Any]:
    """The foreign keys of a column.

    Raises:
        DeserializationError: The serde refuses one.
    """
    try:
        return serde.deserialize_many(raws)
    except Exception as error:
        msg = (
            f"a foreign key is refused by the serde {serde.name} of the right table's keys: {error}: node={node}. "
            "If the type of those keys has changed, reset the application."
        )
        raise DeserializationError(msg) from error


def subscription_receive(node: SubscriptionReceive, wiring: Wiring) -> SubscriptionReceiveOperator:
    """The operator that keeps subscriptions."""
    return SubscriptionReceiveOperator(node, _subscriptions(node, wiring), wiring.context, wiring.forward)


def subscription_join(node: SubscriptionJoin, wiring: Wiring) -> SubscriptionJoinOperator:
    """The operator that answers new subscriptions."""
    return SubscriptionJoinOperator(node, wiring.getter(node.table), wiring.context, wiring.forward)


def foreign_table_join(node: ForeignTableJoin, wiring: Wiring) -> ForeignTableJoinOperator:
    """The operator that answers when right rows change."""
    return ForeignTableJoinOperator(node, _subscriptions(node, wiring), wiring.context, wiring.forward)


def _subscriptions(
    node: SubscriptionReceive | ForeignTableJoin, wiring: Wiring
) -> KeyValueTimestampedStore[Subscription]:
    return cast("KeyValueTimestampedStore[Subscription]", wiring.stores[node.subscriptions])
