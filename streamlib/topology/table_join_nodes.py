"""The nodes of a join of two tables by their common key: one for the updates of each side, one where both meet.

Next: `topology`, which holds all nodes together; `operators/join_tables`, what they do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamlib.topology.nodes import Node


@dataclass(frozen=True, kw_only=True)
class TableJoin(Node):
    """One side of the join: each of its updates with the other table's current value for the key.

    Attributes:
        table: Name of the other table's node; when that has no store, its rows are computed from the stores above it.
        joiner: ``joiner(left, right)``, of the whole join.
        is_right: Whether this is the join's right side.
        keeps_own: Whether rows of this side come out without a row on the other: left and outer joins.
        keeps_other: Whether rows of the other side come out without one on this.
        send_old: Whether results carry the value before them.
    """

    table: str
    joiner: Callable[..., Any]
    is_right: bool = False
    keeps_own: bool = False
    keeps_other: bool = False
    send_old: bool = False


@dataclass(frozen=True, kw_only=True)
class TableJoinMerge(Node):
    """The joined table: takes the results of both sides, the left one first among its parents."""

    store: str | None = None
    send_old: bool = False
