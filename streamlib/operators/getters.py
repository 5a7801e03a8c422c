"""How a join reads a table: from its store, or from the nearest store above it through the tables' functions.

Source: KTableValueGetter and its implementations. Next: `join_table`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from streamlib.operators.table_rows import Row, TableRows
from streamlib.topology.nodes import Node, TableFilter, TableMapValues

Step = Callable[[Any, Any], Any]
"""(key, value) to the value one table further down; may raise, and never gets None."""


@dataclass(frozen=True)
class TableGetter:
    """Reads a table by key.

    Attributes:
        rows: Where the nearest stored table keeps its rows.
        steps: From that table's values to this one's, in order.
    """

    rows: TableRows
    steps: tuple[Step, ...] = ()

    def fetch(self, keys: list[Any]) -> Sequence[Row | None]:
        """The stored rows of keys, none of which is None, in their order."""
        return self.rows.get_many(self.rows.raw_keys(keys)) if keys else []

    def compute(self, key: Any, row: Row | None) -> Any:
        """The table's value, from a row that `fetch` gave; None when there is none. Raises what the functions raise."""
        if row is None:
            return None
        value = row[0]
        for step in self.steps:
            if value is None:
                return None
            value = step(key, value)
        return value


def step_of(node: Node) -> Step:
    """What an unmaterialized table does to its parent's value."""
    if isinstance(node, TableFilter):
        predicate, negate = node.predicate, node.negate
        return lambda key, value: value if bool(predicate(key, value)) is not negate else None
    assert isinstance(node, TableMapValues), f"{node.name} cannot be read: it has no store"
    mapper = node.mapper
    return mapper if node.with_key else lambda _key, value: mapper(value)
