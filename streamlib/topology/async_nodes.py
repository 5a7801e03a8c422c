"""Nodes whose user functions are asynchronous.

Next: `commit_waits`, what they mean for commits; `operators/async_calls`, which has functions called; `runtime/calls`,
where they run.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from streamlib.topology.nodes import Node

Gives = Literal["value", "pair", "records"]


@dataclass(frozen=True)
class CallPolicy:
    """How a call is made.

    Attributes:
        timeout_ms: An attempt that takes longer has failed.
        retries: How many attempts follow a failed one.
        backoff_ms: Time before the first of them; it doubles with each, and a part of it is left to chance.
    """

    timeout_ms: int
    retries: int = 0
    backoff_ms: int = 100


@dataclass(frozen=True, kw_only=True)
class AsyncCalls(Node):
    """Awaits ``mapper(value)``, ``mapper(key, value)`` or ``mapper(record)`` for each row, many at a time.

    Attributes:
        gives: What comes of a call: the new value, a new (key, value), or any number of records.
        with_key: Of those that give a value: whether the function takes the key, too.
        concurrency: So many calls of a task run at once.
        ordered: Whether results keep the order of the rows; if not, those of one key do.
        one_per_key: Whether calls for equal keys follow each other instead of overlapping.
        policy: Timeout and retries.
    """

    mapper: Callable[..., Awaitable[Any]]
    gives: Gives = "value"
    with_key: bool = False
    concurrency: int
    ordered: bool = True
    one_per_key: bool = False
    policy: CallPolicy
