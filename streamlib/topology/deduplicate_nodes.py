"""The node that leaves out duplicates. Next: `operators/deduplicate`, what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamlib.topology.nodes import Node


@dataclass(frozen=True, kw_only=True)
class Deduplicate(Node):
    """Passes the first record of each id.

    Attributes:
        store: The ids that have passed, with their times.
        within_ms: How far apart two records of one id may be for the one that comes later to be left out.
        selector: ``selector(key, value)`` gives the id; None: it is the key.
    """

    store: str
    within_ms: int
    selector: Callable[[Any, Any], Any] | None = None
