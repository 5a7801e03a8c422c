"""What the stores of one table have in common: how their rows get to the engine.

Next: `key_value`, `unmatched`, `change_buffer` and `join_buffer`, which are such stores.
"""

from streamlib.state.base import Engine, TableWrites
from streamlib.state.table import RowCache, StateTable


class OneTableStore:
    """A store whose rows are those of the engine's table of the same name.

    Args:
        name: The store's name.
        engine: Where committed rows live.
        cache_bytes: Memory for clean rows.

    Attributes:
        expired: How many rows came too late to be kept; none do.
    """

    _table: StateTable

    def __init__(self, name: str, engine: Engine, cache_bytes: int = 0) -> None:
        self.expired = 0
        self._name = name
        self._engine = engine
        self._cache = RowCache(cache_bytes)

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done.

        They stay readable, and may be written in chunks while new rows are put, until `applied`.
        """
        rows = self._table.pending()
        return {self._name: rows} if rows else {}

    def applied(self) -> None:
        """The rows of `pending` are in the engine."""
        self._table.applied()

    def discard(self) -> None:
        """Forget everything the engine does not have, and the cache."""
        self._cache.clear()
        self._open()

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return self._table.pending_rows

    def _open(self) -> None:
        """Take the state of the engine; called by the constructors of stores, once they are ready for it."""
        self._table = StateTable(self._engine, self._name, self._cache, exists=self._name in self._engine.tables())
