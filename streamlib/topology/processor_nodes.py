"""Nodes that hold user code of the Processor API. Next: `operators/processor`, which runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamlib.topology.nodes import Node


@dataclass(frozen=True, kw_only=True)
class ProcessorNode(Node):
    """A `Processor`, or a `FixedKeyProcessor` with ``fixed_key``; ``stores`` are those it may use.

    Attributes:
        supplier: Gives a new processor for each task.
        fixed_key: Whether what it forwards has the key of what it takes.
    """

    supplier: Callable[[], Any]
    fixed_key: bool = False


@dataclass(frozen=True, kw_only=True)
class TableTransformValues(Node):
    """A table's transform_values: ``transform(key, value)`` of an object that may use stores.

    Attributes:
        supplier: Gives a new transformer for each task, and one more for each join that reads the table.
        used: Names of the stores the transformer may use; ``stores`` has the table's own too.
        store: The table's own store.
        send_old: Whether updates carry the value before them.
    """

    supplier: Callable[[], Any]
    used: tuple[str, ...] = ()
    store: str | None = None
    send_old: bool = False
