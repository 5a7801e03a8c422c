"""The engine that forgets: tables as dicts, for stores that are not persistent and for tests.

Next: `rocksdb`, the engine that remembers; `table`, what both are wrapped in.
"""

from collections.abc import Iterator, Mapping

from streamlib.errors import StateStoreError
from streamlib.state.base import TableWrites
from streamlib.state.rows import Rows
from streamlib.state.sorted_keys import SortedKeys

COMPACT_DELETED_ROWS = 1000
"""A table is rebuilt when more rows than this, and more than half of them, are deleted."""


class _Table:
    """One table: rows, their order, and how many are deleted at most."""

    __slots__ = ("deleted", "order", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.order = SortedKeys(rows)
        self.deleted = 0


class MemoryEngine:
    """An `Engine` of dicts; what it holds is lost at `close`, so its stores are restored from offset 0."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._offsets: dict[str, int] = {}

    def tables(self) -> list[str]:
        """Names of all tables."""
        return list(self._tables)

    def create(self, table: str) -> None:
        """Make a table unless it exists."""
        if table not in self._tables:
            self._tables[table] = _Table({})

    def drop(self, table: str) -> None:
        """Remove a table; nothing happens when there is none."""
        self._tables.pop(table, None)

    def get(self, table: str, key: bytes) -> bytes | None:
        """One row."""
        return self._table(table).rows.get(key)

    def get_many(self, table: str, keys: list[bytes]) -> list[bytes | None]:
        """Rows, in the order of ``keys``."""
        return list(map(self._table(table).rows.get, keys))

    def scan(
        self, table: str, start: bytes | None, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key < end`` in key order, as of this moment: they are copied before this returns."""
        found = self._table(table)
        rows = found.rows
        keys = found.order.between(start, end)
        if reverse:
            keys.reverse()
        return iter([(key, row) for key in keys if (row := rows[key]) is not None])

    def scan_many(self, table: str, ranges: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
        """Rows of several short ranges ``start <= key < end``, each in key order."""
        return [list(self.scan(table, start, end)) for start, end in ranges]

    def write(self, writes: TableWrites, offsets: Mapping[str, int]) -> None:
        """Write rows and changelog offsets; all or nothing.

        Raises:
            StateStoreError: A table does not exist; nothing was written.
        """
        tables = [(self._table(name), rows) for name, rows in writes.items()]
        for table, rows in tables:
            table.rows.update(rows)
            table.deleted += list(rows.values()).count(None)
            if table.deleted > COMPACT_DELETED_ROWS and table.deleted * 2 > len(table.rows):
                table.rows = {key: row for key, row in table.rows.items() if row is not None}
                table.order = SortedKeys(table.rows)
                table.deleted = 0
        self._offsets.update(offsets)

    def write_chunks(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """The same in one step: a dict takes rows so fast that no loop needs a pause."""
        self.write(writes, offsets)
        yield sum(map(len, writes.values()))

    def log(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """The same."""
        return self.write_chunks(writes, offsets)

    def offsets(self) -> dict[str, int]:
        """Store name to the next changelog offset to apply."""
        return dict(self._offsets)

    def sync(self) -> None:
        """Do nothing: memory survives no power loss."""

    def close(self) -> None:
        """Forget everything."""
        self._tables.clear()
        self._offsets.clear()

    def destroy(self) -> None:
        """Forget everything."""
        self.close()

    def _table(self, name: str) -> _Table:
        try:
            return self._tables[name]
        except KeyError:
            msg = f'no table "{name}" in this engine: create it first (a closed engine has no tables)'
            raise StateStoreError(msg) from None
