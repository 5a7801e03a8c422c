"""An engine that takes small commits cheaply: the rows of each are one row of a log, and go to their tables later.

A key that changes in every commit is then written to its table once for many commits, which is what costs. Until then
its newest row is in memory, where reads find it first. The log is a table of the same engine, written in one batch with
the changelog offsets, so what holds for tables holds here: a killed process loses nothing, a power loss keeps a prefix
of the commits. Opening the engine reads the log again.

Next: `table`, which puts the overlay of what is not committed over this; `rocksdb`, which is under it.
"""

import struct
from collections.abc import Iterator, Mapping
from itertools import repeat
from weakref import WeakSet

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

from streamlib.errors import StateCorruptedError, StateStoreError
from streamlib.state.base import Engine, TableWrites
from streamlib.state.rocksdb import CHUNK_ROWS
from streamlib.state.rows import MISSING, ROW_OVERHEAD_BYTES, Rows, lay_over, mean_bytes, merged
from streamlib.state.sorted_keys import SortedKeys

LOG = "log of recent commits"
"""Name of the engine's table with the log."""

MAX_BYTES = 6 * 1024 * 1024
"""Of the log: while it is smaller than a memtable it is mostly gone before it gets to a file."""

_COMMIT_OVERHEAD_BYTES = 150
_NUMBER = struct.Struct(">q")


class LogMemory:
    """Memory for recent rows, shared out evenly among the engines of a worker.

    Args:
        max_bytes: Of all of them, about: when there are more engines, those that were there give up theirs at their
            next commit.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.engines: WeakSet[LoggedEngine] = WeakSet()

    @property
    def share_bytes(self) -> int:
        """What each may hold."""
        return self._max_bytes // max(1, len(self.engines))


class LoggedEngine:
    """A `TaskEngine` over another one, which it owns.

    Args:
        engine: Is read now; nothing else may write to it.
        memory: For the rows that are not in their tables yet.

    Raises:
        StateCorruptedError: The log is damaged: close the engine, and go on as when it is damaged itself.
    """

    def __init__(self, engine: Engine, memory: LogMemory) -> None:
        memory.engines.add(self)
        self._memory = memory
        self._engine = engine
        self._encode = Encoder().encode
        self._recent: dict[str, Rows] = {}
        self._orders: dict[str, SortedKeys] = {}
        self._logged: Rows = {}  # what to delete from the log once its rows are in their tables
        self._dropped: set[str] = set()  # tables of which there are rows in the log
        self._bytes = 0
        self._next = 0
        if LOG in engine.tables():
            self._read_log()

    def tables(self) -> list[str]:
        """Names of all tables."""
        return [table for table in self._engine.tables() if table != LOG]

    def create(self, table: str) -> None:
        """Make a table unless it exists."""
        if table in self._dropped:
            self.write({}, {})
        self._engine.create(table)

    def drop(self, table: str) -> None:
        """Remove a table. Nothing happens when there is none."""
        if self._recent.pop(table, None) is not None:
            del self._orders[table]
            self._dropped.add(table)
            if sum(map(len, self._recent.values())) <= CHUNK_ROWS:  # else the next commit gives back the log's space
                self.write({}, {})
        self._engine.drop(table)

    def get(self, table: str, key: bytes) -> bytes | None:
        """One row."""
        return self.get_many(table, [key])[0]

    def get_many(self, table: str, keys: list[bytes]) -> list[bytes | None]:
        """Rows, in the order of ``keys``."""
        recent = self._recent.get(table)
        if not recent:
            return self._engine.get_many(table, keys)
        rows = list(map(recent.get, keys, repeat(MISSING)))
        holes = [position for position, row in enumerate(rows) if row is MISSING]
        if holes:
            found = self._engine.get_many(table, [keys[position] for position in holes])
            for position, row in zip(holes, found, strict=True):
                rows[position] = row
        return rows

    def scan(
        self, table: str, start: bytes | None, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key < end`` in key order, as of this moment."""
        stored = self._engine.scan(table, start, end, reverse=reverse)
        recent = self._recent.get(table)
        keys = self._orders[table].between(start, end) if recent else []
        if not recent or not keys:
            return stored
        if reverse:
            keys.reverse()
        return merged([(key, recent[key]) for key in keys], stored, reverse=reverse)

    def scan_many(self, table: str, ranges: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
        """Rows of several short ranges ``start <= key < end``, each in key order."""
        found = self._engine.scan_many(table, ranges)
        if recent := self._recent.get(table):
            lay_over(found, recent, self._orders[table].between_many(ranges))
        return found

    def write(self, writes: TableWrites, offsets: Mapping[str, int]) -> None:
        """Write rows and changelog offsets straight to their tables; what waits in the log goes there before."""
        for _ in self.write_chunks(writes, offsets):
            pass

    def write_chunks(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """The same, one chunk for each step."""
        if self._recent or self._logged:  # a commit may have been interrupted that had found the log empty
            yield from self._flush({})
        yield from self._engine.write_chunks(writes, offsets)

    def log(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """Write rows of which many will soon be written again, and changelog offsets; the same otherwise.

        Raises:
            StateStoreError: As `write_chunks`.
        """
        for table in writes.keys() - set(self._engine.tables()):
            msg = f'no table "{table}" to log rows for: create it first (a closed engine has no tables)'
            raise StateStoreError(msg)
        for table, rows in writes.items():
            recent = self._recent.get(table)
            if recent is None:
                recent = self._recent[table] = {}
                self._orders[table] = SortedKeys(recent)
            recent.update(rows)
        if not writes:
            yield from self._engine.write_chunks({}, offsets)
            return
        overhead = ROW_OVERHEAD_BYTES * sum(map(len, self._recent.values()))
        overhead += _COMMIT_OVERHEAD_BYTES * len(self._logged)
        free = min(MAX_BYTES, self._memory.share_bytes - overhead) - self._bytes
        commit = None if self._dropped or _about_bytes(writes) > free else self._encode(writes)
        if commit is None or len(commit) > free:
            yield from self._flush(offsets)
            return
        if not self._next:
            self._engine.create(LOG)
        number = _NUMBER.pack(self._next)
        self._logged[number] = None
        self._next += 1
        self._bytes += len(commit)
        yield from self._engine.write_chunks({LOG: {number: commit}}, offsets)

    def offsets(self) -> dict[str, int]:
        """Store name to the next changelog offset to apply."""
        return self._engine.offsets()

    def sync(self) -> None:
        """Make what was written survive a power loss. Blocks: call it in a thread."""
        self._engine.sync()

    def close(self) -> None:
        """Close; what is in the log only is found there again."""
        self._memory.engines.discard(self)
        self._forget()
        self._engine.close()

    def destroy(self) -> None:
        """Close and delete everything."""
        self._memory.engines.discard(self)
        self._forget()
        self._engine.destroy()

    def _flush(self, offsets: Mapping[str, int]) -> Iterator[int]:
        """Write the recent rows to their tables, in chunks, and then delete the log, which has them till then."""
        log = {LOG: self._logged} if self._logged else {}
        yield from self._engine.write_chunks(self._recent | log, offsets)
        self._forget()

    def _forget(self) -> None:
        self._recent, self._orders, self._logged, self._dropped, self._bytes = {}, {}, {}, set(), 0

    def _read_log(self) -> None:
        tables = set(self._engine.tables())
        decode = Decoder(dict[str, dict[bytes, bytes | None]]).decode
        for number, commit in self._engine.scan(LOG, None, None):
            self._logged[number] = None
            self._next = _NUMBER.unpack(number)[0]
            self._bytes += len(commit)
            try:
                writes = decode(commit)
            except MsgspecError as error:
                msg = f"the log of recent commits has a row that is none: {error}"
                raise StateCorruptedError(msg) from error
            for table, rows in writes.items():
                if table in tables:
                    self._recent.setdefault(table, {}).update(rows)
                else:
                    self._dropped.add(table)
        self._next += 1
        self._orders = {table: SortedKeys(rows) for table, rows in self._recent.items()}


def _about_bytes(writes: TableWrites) -> int:
    """What all rows have if they are as large as the first of each table, so as not to encode far too much."""
    return sum(len(rows) * mean_bytes(rows) for rows in writes.values() if rows)
