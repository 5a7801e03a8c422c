"""The keys of a window store in the order of time, so that the windows of a short time are found among all the others.

Beside each segment there is a table of keys ``window start int64 | key | sequence int32`` without values, written in
the same batch as the rows. A table is complete once it holds its mark; one that is not is made anew from the segment,
so a store may begin to have an index, or stop having one. Java keeps the rows themselves in this order; the changelog
is the same with and without it.

Source: PrefixedWindowKeySchemas (KIP-825). Next: `segments`, which keeps it right.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from streamlib.state.base import Engine
from streamlib.state.rows import Rows
from streamlib.state.table import RowCache, StateTable
from streamlib.state.timestamped import pack_timestamp

_MARK = b""
_PRESENT = b""
_FIRST_STORE_KEY = b"\x00"
_BUILT_ROWS = 10_000
_MAX_TIME = 0x7FFFFFFF_FFFFFFFF


def time_first(store_key: bytes) -> bytes:
    """A window store key with the window start in front: these sort by time, then by key."""
    return store_key[-12:-4] + store_key[:-12] + store_key[-4:]


def key_first(time_key: bytes) -> bytes:
    """The window store key again."""
    return time_key[8:-4] + time_key[:8] + time_key[-4:]


class TimeIndex:
    """The order of time of one store.

    Args:
        engine: The store's.
        store: Its name.
        interval: Length (ms) of its segments.
    """

    def __init__(self, engine: Engine, store: str, interval: int) -> None:
        self._engine = engine
        self._folder = _folder(store)
        self._prefix = f"{self._folder}{interval}/"
        self._interval = interval
        self._tables: dict[int, StateTable] = {}
        self._overlays: dict[int, Rows] = {}  # by window start
        self._doomed: list[StateTable] = []
        self._dropping: list[StateTable] = []

    def open(self, segments: Iterable[StateTable]) -> None:
        """Take what the engine has; what is missing for its segments is made."""
        self._tables = {}
        self._overlays = {}
        self._doomed = []
        self._dropping = []
        existing = {table for table in self._engine.tables() if table.startswith(self._folder)}
        for segment in segments:
            segment_id = int(segment.name.rpartition("/")[2])
            table = self._table(segment_id, exists=True)
            if table.name not in existing or self._engine.get(table.name, _MARK) is None:
                self._build(segment.name, table.name)
            existing.discard(table.name)
            self._tables[segment_id] = table
        for name in existing:
            self._engine.drop(name)

    def put(self, start: int, store_key: bytes, *, deleted: bool) -> None:
        """Take note that a row of a live segment was put or deleted; ``start`` (ms) is that of its key."""
        overlay = self._overlays.get(start)
        if overlay is None:
            overlay = self._overlays[start] = self._overlay(start // self._interval)
        overlay[time_first(store_key)] = None if deleted else _PRESENT

    def keys(self, time_from: int, time_to: int) -> Iterator[bytes]:
        """Store keys of the windows that start in ``[time_from, time_to]`` (ms), by time, then by key."""
        first, beyond = pack_timestamp(time_from), pack_timestamp(min(time_to, _MAX_TIME - 1) + 1)
        ids = range(time_from // self._interval, time_to // self._interval + 1)
        for segment_id in sorted(self._tables):
            if segment_id in ids:
                for time_key, _ in self._tables[segment_id].scan(first, beyond):
                    yield key_first(time_key)

    def expire(self, segment_ids: Iterable[int]) -> None:
        """Forget segments; the engine does so when the commit is applied."""
        self._overlays.clear()
        self._doomed += (self._tables.pop(segment_id) for segment_id in segment_ids if segment_id in self._tables)

    def pending(self) -> dict[str, Rows]:
        """The rows for the atomic batch of this commit."""
        self._overlays.clear()
        self._dropping += (table for table in self._doomed if table.exists)
        self._doomed = []
        return {table.name: rows for table in self._tables.values() if (rows := table.pending())}

    def applied(self) -> None:
        """The rows of `pending` are in the engine."""
        for table in self._tables.values():
            table.applied()
        for table in self._dropping:
            self._engine.drop(table.name)
        self._dropping = []

    def _overlay(self, segment_id: int) -> Rows:
        table = self._tables.get(segment_id)
        if table is None:
            table = self._tables[segment_id] = self._table(segment_id, exists=False)
            table.rows[_MARK] = _PRESENT
        return table.rows

    def _table(self, segment_id: int, *, exists: bool) -> StateTable:
        return StateTable(self._engine, f"{self._prefix}{segment_id}", RowCache(0), exists=exists)

    def _build(self, segment: str, name: str) -> None:
        """Write the index of a segment, the mark last: one that is cut short will be made again."""
        self._engine.drop(name)
        self._engine.create(name)
        rows = self._engine.scan(segment, _FIRST_STORE_KEY, None)
        while part := list(islice(rows, _BUILT_ROWS)):
            self._engine.write({name: {time_first(key): _PRESENT for key, _ in part}}, {})
        self._engine.write({name: {_MARK: _PRESENT}}, {})


def drop_index(engine: Engine, store: str) -> None:
    """Remove what an index has left: it would not follow the store any more."""
    folder = _folder(store)
    for table in [table for table in engine.tables() if table.startswith(folder)]:
        engine.drop(table)


def _folder(store: str) -> str:
    return f"{store}:time/"  # no store name holds a colon, and tables of rows have a slash there
