"""How a join reads a table: from its store, or computed from the nearest stores above it.

Reading takes two steps: `fetch` looks up many keys at once and calls nothing of the user's; `compute` then makes the
row of one key, so that an error in a user function concerns one row. A table without store is computed from the ones
above it; `runtime/lowering.GETTERS` tells how, for each type of node.

Source: KTableValueGetter and its implementations. Next: `wiring`, which makes them; `join_table`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from streamlib.operators.table_rows import Row, TableRows
from streamlib.state.versioned import VersionedStore

Step = Callable[[Any, Any], Any]
"""(key, value) to the value one table further down; may raise, and never gets None."""

FetchAsOf = Callable[[list[Any], list[int]], Sequence[Any]]


class TableGetter(Protocol):
    """Reads a table by key."""

    @property
    def stored(self) -> bool:
        """Whether what `fetch` gives are the rows themselves, so that `compute` can be left out."""

    def fetch(self, keys: list[Any]) -> Sequence[Any]:
        """What is stored for keys, none of which is None, in their order; None where that gives no row.

        To be handed to `compute` before anything is written.
        """

    @property
    def fetch_as_of(self) -> FetchAsOf | None:
        """The same with a time (ms) for each key: what was stored then; None for a table without history."""

    def compute(self, key: Any, found: Any) -> Row | None:
        """The table's value and timestamp, from what `fetch` gave; None when there is no row.

        Raises what the functions of the tables raise.
        """


class StoredGetter:
    """Reads a table that has a store.

    Args:
        rows: The store and its cache.
    """

    stored = True

    def __init__(self, rows: TableRows) -> None:
        self._rows = rows
        self.fetch_as_of: FetchAsOf | None = None
        if isinstance(rows.store, VersionedStore):
            store = rows.store
            self.fetch_as_of = lambda keys, times: store.get_many_as_of(rows.raw_keys(keys), times) if keys else []

    def fetch(self, keys: list[Any]) -> Sequence[Any]:
        """The rows of keys."""
        return self._rows.get_many(self._rows.raw_keys(keys)) if keys else []

    def compute(self, key: Any, found: Any) -> Row | None:
        """The row, as it is."""
        row: Row | None = found
        return row


class ComputedGetter:
    """Reads a table whose values are computed from those of another table, row by row.

    Args:
        above: Reads the other table.
        step: From its value to this table's; the timestamp stays.
    """

    stored = False

    def __init__(self, above: TableGetter, step: Step) -> None:
        self._above = above
        self._step = step
        self.fetch = above.fetch
        self.fetch_as_of = above.fetch_as_of

    def compute(self, key: Any, found: Any) -> Row | None:
        """The other table's row with the computed value."""
        row = found if self._above.stored else self._above.compute(key, found)
        if row is None:
            return None
        value = self._step(key, row[0])
        return None if value is None else (value, row[1])
