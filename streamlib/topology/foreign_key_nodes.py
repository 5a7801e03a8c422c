"""The nodes of a foreign-key join, in the order of a left row's way: to the right side, and back with its answer.

Left rows are sent, as subscriptions, to the partition of the right row they name. There they are stored, so that later
updates of the right row find them; the answers go back to the left row's partition, and are joined.
Next: `operators/foreign_key_left` and `operators/foreign_key_right`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamlib.serdes.base import AnySerde
from streamlib.topology.nodes import Node


@dataclass(frozen=True, kw_only=True)
class SubscriptionSend(Node):
    """Updates of the left table as subscriptions under ``foreign_key(key, value)``.

    Attributes:
        foreign_key: Gives the key of the right row, or None.
        left: Whether rows without a right row come out too.
        key_serde: Of the left table's keys.
        value_serde: Of its values.
        foreign_key_serde: Of the right table's keys.

    Source: SubscriptionSendProcessorSupplier.
    """

    foreign_key: Callable[[Any, Any], Any]
    left: bool
    key_serde: AnySerde
    value_serde: AnySerde
    foreign_key_serde: AnySerde


@dataclass(frozen=True, kw_only=True)
class SubscriptionReceive(Node):
    """Keeps subscriptions in a store, where the updates of the right table find them.

    Source: SubscriptionReceiveProcessorSupplier.
    """

    subscriptions: str


@dataclass(frozen=True, kw_only=True)
class SubscriptionJoin(Node):
    """Answers subscriptions with the right table's current row.

    Attributes:
        table: Name of the right table's node.
        foreign_key_serde: Of its keys.
        value_serde: Of its values.

    Source: SubscriptionJoinProcessorSupplier.
    """

    table: str
    foreign_key_serde: AnySerde
    value_serde: AnySerde


@dataclass(frozen=True, kw_only=True)
class ForeignTableJoin(Node):
    """Answers all subscriptions to a row of the right table when that changes.

    Source: ForeignTableJoinProcessorSupplier.
    """

    subscriptions: str
    foreign_key_serde: AnySerde
    value_serde: AnySerde


@dataclass(frozen=True, kw_only=True)
class ResponseJoin(Node):
    """Answers, as far as they are to the current left rows, as ``joiner(left, right)``; None where there is no match.

    Attributes:
        table: Name of the left table's node.
        value_serde: Of its values.
        joiner: The user's function.
        left: Whether rows without a right row come out too.
        send: Name of the node that sends the subscriptions of the left table.
        subscription_sink: Name of the sink below that.
        ask_again: Whether, in an inner join, a late answer without a value makes it ask for the current row once more.

    Source: ResponseJoinProcessorSupplier.
    """

    table: str
    value_serde: AnySerde
    joiner: Callable[[Any, Any], Any]
    left: bool
    send: str
    subscription_sink: str
    ask_again: bool = False
