"""Nodes of joins between two streams. Next: `operators/join_streams`, which runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamlib.topology.nodes import Node
from streamlib.topology.windows import JoinWindows


@dataclass(frozen=True, kw_only=True)
class JoinWindow(Node):
    """Passes records on to its side's join, then keeps those that have a key and a value.

    Attributes:
        store: Where they are kept.
        windows: As seen from this side.
        late: Name of the child that is given the records that come too late to be kept, and nothing else.
    """

    store: str
    windows: JoinWindows | None = None
    late: str | None = None


@dataclass(frozen=True, kw_only=True)
class StreamStreamJoin(Node):
    """One side of a join: each record with those of the other side in the window around it.

    Attributes:
        left: Which side.
        this_store: What this side keeps; here only its serdes are needed.
        other_store: What the other side keeps.
        unmatched_store: Records of both sides that wait for a match; None for an inner join.
        windows: As seen from the left side.
        joiner: ``joiner(left, right)``.
        with_key: ``joiner(key, left, right)``.
        outer: Whether this side's records come out without a match, with None for the other side.
        idle_ms: After so much wall-clock time without records of either side those without a match come out all the
            same; 0: never; None: as the worker says.
    """

    left: bool
    this_store: str
    other_store: str
    unmatched_store: str | None
    windows: JoinWindows
    joiner: Callable[..., Any]
    with_key: bool
    outer: bool
    idle_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class StreamSelfJoin(Node):
    """A stream joined with itself: each record with those before it, in both roles, and with itself.

    Attributes:
        store: What has been kept of the stream.
        windows: As seen from the left side.
        joiner: ``joiner(left, right)``.
        with_key: ``joiner(key, left, right)``.
    """

    store: str
    windows: JoinWindows
    joiner: Callable[..., Any]
    with_key: bool
