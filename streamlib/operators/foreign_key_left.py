"""The left side of a foreign-key join: its updates go out as subscriptions, the answers come back and are joined.

A subscription carries the hash of the left row. An answer is joined only if the left row still has that hash: other
answers are late, and the one to the current row is on its way, if there is a right row. An update that moves a row to
another foreign key takes back its subscription there first.

In an inner join a subscription to no right row may stay unanswered. If the answer that would have deleted the result
before it comes late, nobody else will, and the old result stays, as in Kafka Streams; with ``ask_again`` the current
row is then asked for once more. While every answer is back before the next update, both do the same.

Source: SubscriptionSendProcessorSupplier (as of KAFKA-14049), ResponseJoinProcessorSupplier; KIP-213, KIP-1104.
Next: `foreign_key_right`, where subscriptions go.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from streamlib.errors import SerdeError
from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import TableGetter
from streamlib.operators.selection import picked, with_keys, with_values
from streamlib.operators.table_rows import Row
from streamlib.operators.value_hashes import ValueHashes
from streamlib.operators.wiring import Wiring
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import AnySerde
from streamlib.serdes.subscription import (
    DELETE_KEY_AND_PROPAGATE,
    DELETE_KEY_NO_PROPAGATE,
    PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE,
    PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE,
    SubscriptionResponse,
    partition_bytes,
    subscription_head,
)
from streamlib.topology.foreign_key_nodes import ResponseJoin, SubscriptionSend
from streamlib.topology.nodes import Sink

_HEADS = [
    [subscription_head(number, has_hash=has_hash) for number in range(PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE + 1)]
    for has_hash in (False, True)
]
"""What subscriptions begin with, by whether they have a hash, then by instruction."""


class SubscriptionSendOperator:
    """Turns updates into subscriptions under serialized foreign keys.

    Args:
        node: What to do.
        hashes: Of left values.
        context: Errors, counters, and the partition that answers are sent to.
        forward: Where subscriptions go.
    """

    def __init__(self, node: SubscriptionSend, hashes: ValueHashes, context: OperatorContext, forward: Forward) -> None:
        self._node = node
        self._hashes = hashes
        self._context = context
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Subscribe, and take back subscriptions; an inner join leaves out and counts rows without a foreign key."""
        assert isinstance(batch, ChangeBatch)
        node = self._node
        taken, new_keys, old_keys = self._foreign_keys(batch)
        if not taken:
            return
        values = [batch.values[row] for row in taken]
        hashes = self._hashes.computed(values)
        left_keys = [batch.keys[row] for row in taken]
        primary_keys: list[Any] = serialized(node.key_serde, left_keys, node.name, "key of the left table")
        what = "foreign key"
        news = serialized(node.foreign_key_serde, new_keys, node.name, what)
        olds = serialized(node.foreign_key_serde, old_keys, node.name, what)
        if not node.left:
            without = sum(new is None and value is not None for new, value in zip(news, values, strict=True))
            if without:
                self._context.metrics.dropped(node.name, "null-foreign-key", without)
        end = partition_bytes(self._context.partition)
        rests = [(value_hash or b"") + key + end for value_hash, key in zip(hashes, primary_keys, strict=True)]
        columns = zip(taken, news, olds, [value_hash is not None for value_hash in hashes], rests, strict=True)
        rows, keys, subscriptions = _subscriptions(columns, left=node.left)
        if rows:
            self._forward(picked(batch, rows, subscriptions, keys))

    def _foreign_keys(self, batch: ChangeBatch) -> tuple[list[int], list[Any], list[Any]]:
        """The rows that count, and the foreign key of each after and before the update."""
        node, foreign_key = self._node, self._node.foreign_key
        rows: list[int] = []
        new_keys: list[Any] = []
        old_keys: list[Any] = []
        outdated = 0
        befores = batch.olds or [None] * len(batch)
        for row, (key, value, before) in enumerate(zip(batch.keys, batch.values, befores, strict=True)):
            if batch.latest is not None and not batch.latest[row]:
                outdated += 1
                continue
            if value is None and before is None:
                continue
            try:
                old = None if before is None else foreign_key(key, before)
                new = None if value is None else foreign_key(key, value)
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._context.errors.failed(error, node.name, key, value, batch.timestamps[row], offset)
                continue
            rows.append(row)
            new_keys.append(new)
            old_keys.append(old)
        if outdated:
            self._context.metrics.dropped(node.name, "not-latest", outdated)
        return rows, new_keys, old_keys


def _subscriptions(
    columns: Iterable[tuple[int, bytes | None, bytes | None, bool, bytes]], *, left: bool
) -> tuple[list[int], list[Any], list[Any]]:
    """The subscriptions that updates cause, in order: of which row each is, its key and its bytes.

    Args:
        columns: Row; foreign key after and before the update, None where there is no row or no key; whether there is a
            hash; and what follows the head.
        left: Whether every update is to be answered: then a deletion asks as well, under no key, which is not kept.
    """
    rows: list[int] = []
    keys: list[Any] = []
    subscriptions: list[Any] = []
    ask = PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE if left else PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE
    for row, new, old, has_hash, rest in columns:
        heads = _HEADS[has_hash]
        if old is not None and old != new:
            rows.append(row)
            keys.append(old)
            if new is None and not left:
                subscriptions.append(heads[DELETE_KEY_AND_PROPAGATE] + rest)
                continue
            subscriptions.append(heads[DELETE_KEY_NO_PROPAGATE] + rest)
            subscriptions.append(heads[PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE] + rest)
        elif new is not None or left:
            subscriptions.append(heads[ask] + rest)
        else:
            continue
        rows.append(row)
        keys.append(new)
    return rows, keys, subscriptions


class ResponseJoinOperator:
    """Joins answers with the left rows they belong to.

    Args:
        node: What to do.
        getter: Reads the left table.
        hashes: Of left values.
        again: Asks for rows whose answer may have been lost; None where nobody does, or every row is answered.
        context: Errors and counters.
        forward: Where results go, None for rows without a match.
    """

    def __init__(
        self,
        node: ResponseJoin,
        getter: TableGetter,
        hashes: ValueHashes,
        again: "AgainOperator | None",
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._getter = getter
        self._hashes = hashes
        self._again = again
        self._context = context
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Join each answer to a current left row; the others are counted."""
        node, joiner, left = self._node, self._node.joiner, self._node.left
        metrics = self._context.metrics
        batch = with_values(with_keys(batch, node.name, metrics), node.name, metrics)
        taken, currents = self._left_rows(batch)
        values = [None if current is None else current[0] for current in currents]
        hashes = self._hashes.of(values)
        rows: list[int] = []
        results: list[Any] = []
        late: list[int] = []
        for position, (row, value, value_hash) in enumerate(zip(taken, values, hashes, strict=True)):
            response: SubscriptionResponse = batch.values[row]
            if response.value_hash != value_hash:
                late.append(position)
                continue
            right = response.foreign_value
            try:
                results.append(None if value is None or (right is None and not left) else joiner(value, right))
                rows.append(row)
            except Exception as error:
                self._failed(error, batch, row)
        ask: RecordBatch | None = None
        if late and self._again is not None:
            times = [-1 if (current := currents[position]) is None else current[1] for position in late]
            ask = RecordBatch(
                [batch.keys[taken[position]] for position in late],
                [(values[position], hashes[position], batch.values[taken[position]]) for position in late],
                times,
            )
        if rows:
            self._forward(picked(batch, rows, results))
        if late:
            metrics.dropped(node.name, "late-response", len(late))
        if ask is not None and self._again is not None:
            self._again.process(ask)

    def _left_rows(self, batch: RecordBatch) -> tuple[Sequence[int], Sequence[Row | None]]:
        """The rows whose left row could be read, and that row."""
        getter = self._getter
        found = getter.fetch(batch.keys)
        if getter.stored:
            return range(len(batch)), found
        taken: list[int] = []
        currents: list[Row | None] = []
        for row, (key, stored) in enumerate(zip(batch.keys, found, strict=True)):
            try:
                currents.append(getter.compute(key, stored))
                taken.append(row)
            except Exception as error:
                self._failed(error, batch, row)
        return taken, currents

    def _failed(self, error: Exception, batch: RecordBatch, row: int) -> None:
        offset = None if batch.offsets is None else batch.offsets[row]
        key, right = batch.keys[row], batch.values[row].foreign_value
        self._context.errors.failed(error, self._node.name, key, right, batch.timestamps[row], offset)


class AgainOperator:
    """Subscribes current left rows again, after a late answer without a value, so that they are answered in any case.

    Args:
        node: The node that subscribed them first.
        sink: Where subscriptions go.
        context: Errors, and the way out.
    """

    def __init__(self, node: SubscriptionSend, sink: Sink, context: OperatorContext) -> None:
        self._node = node
        self._sink = sink
        self._context = context

    def process(self, batch: RecordBatch) -> None:
        """Take late answers: under the left key (left value, its hash, answer), with the time of the left row."""
        node, context = self._node, self._context
        asked: dict[bytes, tuple[Any, bytes, int]] = {}
        primary_keys: list[Any] = serialized(node.key_serde, batch.keys, node.name, "key of the left table")
        head = _HEADS[True][PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE]
        end = partition_bytes(context.partition)
        columns = zip(batch.keys, primary_keys, batch.values, batch.timestamps, strict=True)
        for key, primary_key, (value, value_hash, answer), timestamp in columns:
            # A deleted row needs no result, and its deletion is answered if it had a foreign key.
            if value is None or answer.foreign_value is not None:
                continue
            try:
                foreign_key = node.foreign_key(key, value)
            except Exception as error:
                context.errors.failed(error, node.name, key, value, timestamp, None)
                continue
            asked[primary_key] = (foreign_key, head + value_hash + primary_key + end, timestamp)
        if asked:
            keys, subscriptions, timestamps = map(list, zip(*asked.values(), strict=True))
            raws = serialized(node.foreign_key_serde, keys, node.name, "foreign key")
            context.collector.send(self._sink, RecordBatch(raws, subscriptions, timestamps))


def serialized(serde: AnySerde, column: list[Any], node: str, what: str) -> list[bytes | None]:
    """The bytes of a column; None stays None.

    Raises:
        SerdeError: Names the node and the type of the first value that does not fit.
    """
    try:
        return serde.serialize_many(column)
    except Exception as error:
        wrong = next((value for value in column if value is not None and not _fits(serde, value)), None)
        msg = (
            f"the serde {serde.name} cannot write a {type(wrong).__name__} as the {what}: {error}: node={node}. "
            "Name the serdes of the joined tables where the tables are made; a foreign key is written as the right "
            "table's keys are."
        )
        raise SerdeError(msg) from error


def serialized_one(serde: AnySerde, value: Any, node: str, what: str) -> bytes | None:
    """The bytes of one value; None stays None. Raises as `serialized`."""
    try:
        return None if value is None else serde.serialize(value)
    except Exception:
        return serialized(serde, [value], node, what)[0]


def _fits(serde: AnySerde, value: Any) -> bool:
    try:
        serde.serialize(value)
    except Exception:
        return False
    return True


def subscription_send(node: SubscriptionSend, wiring: Wiring) -> SubscriptionSendOperator:
    """The operator that sends subscriptions."""
    return SubscriptionSendOperator(node, _hashes(node.name, node, wiring), wiring.context, wiring.forward)


def response_join(node: ResponseJoin, wiring: Wiring) -> ResponseJoinOperator:
    """The operator that joins responses."""
    again: AgainOperator | None = None
    if node.ask_again and not node.left:
        send, sink = (wiring.topology.nodes[name] for name in (node.send, node.subscription_sink))
        assert isinstance(send, SubscriptionSend)
        assert isinstance(sink, Sink)
        again = AgainOperator(send, sink, wiring.context)
    hashes = _hashes(node.send, node, wiring)
    return ResponseJoinOperator(node, wiring.getter(node.table), hashes, again, wiring.context, wiring.forward)


def _hashes(send: str, node: SubscriptionSend | ResponseJoin, wiring: Wiring) -> ValueHashes:
    """The hashes that a join's two operators share."""
    serde = node.value_serde

    def serialize(values: list[Any]) -> list[bytes | None]:
        return serialized(serde, values, send, "value of the left table")

    return wiring.value_hashes.setdefault(send, ValueHashes(serialize, immutable=serde.immutable))
