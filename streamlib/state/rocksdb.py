"""The engine that remembers: one RocksDB per task, a column family per table.

The write-ahead log is on and not synced, so a batch over several tables is atomic, a killed process loses nothing that
was written, and a power loss keeps a prefix of the batches: what is on disk is always the fold of the changelog up to
the offset stored with it. Column family ``default`` holds the format version and the offsets.

Next: `directory`, which opens engines; `table`, which puts the overlay and the read cache over them.
"""

import shutil
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

from rocksdict import (
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from streamlib.errors import DiskFullError, StateCorruptedError, StateDirLockedError, StateStoreError
from streamlib.serdes.base import any_none
from streamlib.state.base import TableWrites

FORMAT_VERSION = 2

# rocksdict's write holds the GIL: 10,000 rows are 10-25 ms of it, sorting and filling included.
CHUNK_ROWS = 10_000
CHUNK_BYTES = 4 * 1024 * 1024

SORTED_ROWS = 50_000
"""So many keys are sorted at once, which takes about as long as a chunk: the rows of each chunk lie closer together."""

_CHECK_BYTES_EVERY = 256
_SCAN_ROWS = 256
_FIRST_SCAN_ROWS = 16
_FORMAT_KEY = b"format"
_OFFSET_PREFIX = b"offset/"
_TABLE_PREFIX = "table:"
_OFFSET = struct.Struct(">q")

_MEBIBYTE = 1024 * 1024


class RocksMemory:
    """The memory that all engines of a worker share: one block cache, with the memtables charged to it.

    Args:
        state_memory_bytes: About a quarter is for rows on their way here (`logged`), the rest the capacity of the
            cache, of which at most half is memtables.

    Attributes:
        log_bytes: That quarter.
    """

    def __init__(self, state_memory_bytes: int) -> None:
        self.log_bytes = state_memory_bytes // 4
        cache_bytes = state_memory_bytes - self.log_bytes
        self._cache = Cache(cache_bytes)
        self._buffers = WriteBufferManager.new_write_buffer_manager_with_cache(cache_bytes // 2, False, self._cache)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self._buffers)
        # Small memtables are quicker to insert into, and a small arena block keeps quiet tables cheap.
        options.set_write_buffer_size(max(_MEBIBYTE, min(8 * _MEBIBYTE, state_memory_bytes // 16)))
        options.set_arena_block_size(64 * 1024)
        options.set_max_write_buffer_number(4)
        # A bloom filter over memtables: a miss costs 0.3 µs instead of 2.3.
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.02)
        options.set_compression_type(DBCompressionType.none())
        options.set_max_total_wal_size(64 * _MEBIBYTE)
        options.set_max_open_files(256)
        options.set_keep_log_file_num(2)
        options.set_stats_dump_period_sec(0)
        self._options = options

    @property
    def options(self) -> Options:
        """Options of every database and column family of the worker."""
        return self._options

    @property
    def used_bytes(self) -> int:
        """Blocks, indexes, filters and memtables held now, over all engines."""
        return self._cache.get_usage()


class _Table(NamedTuple):
    rows: Rdict
    family: ColumnFamily


class _Cursor:
    """A live RocksDB iterator; it would keep the database locked, so `close` takes it away from its scan."""

    __slots__ = ("__weakref__", "rows")

    def __init__(self, rows: Iterator[tuple[Any, Any]]) -> None:
        self.rows: Iterator[tuple[Any, Any]] | None = rows


class RocksEngine:
    """An `Engine` on RocksDB; made by `open`.

    Not safe for concurrent use, except that `sync` may run in a thread beside everything but `close`.
    """

    def __init__(self, path: Path, db: Rdict, tables: dict[str, _Table], options: Options) -> None:
        self.path = path
        self._db = db
        self._tables = tables
        self._options = options
        self._offsets: dict[str, int] = {}
        self._cursors: WeakSet[_Cursor] = WeakSet()

    @classmethod
    def open(cls, path: Path, memory: RocksMemory) -> "RocksEngine":
        """The engine of a directory, which is made unless it exists; all its tables are found.

        Raises:
            StateDirLockedError: Another engine, of this process or another one, has the directory open.
            StateCorruptedError: The files are damaged: `set_aside` the directory, open again, restore from offset 0.
            DiskFullError: There is no room.
            StateStoreError: Anything else, such as a format this version does not know.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            is_new = not (path / "CURRENT").exists()
            if is_new and next(path.glob("MANIFEST-*"), None) is not None:
                msg = f"no CURRENT file beside the manifests in {path}"
                raise StateCorruptedError(msg)
            families = [] if is_new else Rdict.list_cf(str(path), memory.options)
            db = Rdict(str(path), memory.options, dict.fromkeys(families, memory.options) or None)
            tables = {
                name.removeprefix(_TABLE_PREFIX): _Table(db.get_column_family(name), db.get_column_family_handle(name))
                for name in families
                if name.startswith(_TABLE_PREFIX)
            }
        except StateStoreError:
            raise
        except Exception as error:
            raise _failure(error, path, "open the state") from error
        engine = cls(path, db, tables, memory.options)
        try:
            engine._load()
        except BaseException:
            engine.close()
            raise
        return engine

    def tables(self) -> list[str]:
        """Names of all tables."""
        return list(self._tables)

    def create(self, table: str) -> None:
        """Make a table unless it exists; 2 ms, since RocksDB syncs its manifest."""
        if table in self._tables:
            return
        name = _TABLE_PREFIX + table
        try:
            rows = self._db.create_column_family(name, self._options)
            self._tables[table] = _Table(rows, self._db.get_column_family_handle(name))
        except Exception as error:
            raise _failure(error, self.path, f'create table "{table}"') from error

    def drop(self, table: str) -> None:
        """Remove a table; its files go once no scan reads them. Nothing happens when there is none."""
        if table not in self._tables:
            return
        try:
            self._db.drop_column_family(_TABLE_PREFIX + table)
        except Exception as error:
            raise _failure(error, self.path, f'drop table "{table}"') from error
        del self._tables[table]

    def get(self, table: str, key: bytes) -> bytes | None:
        """One row."""
        return self.get_many(table, [key])[0]

    def get_many(self, table: str, keys: list[bytes]) -> list[bytes | None]:
        """Rows, in the order of ``keys``."""
        rows = self._table(table).rows
        try:
            return list(map(rows.get, keys))  # RocksDB's own multi-get is slower through rocksdict than single gets
        except Exception as error:
            raise _failure(error, self.path, f'read table "{table}"') from error

    def scan(
        self, table: str, start: bytes | None, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key < end`` in key order, as of this moment.

        Raises:
            StateStoreError: At a step after the engine was closed, or when rows cannot be read.
        """
        rows = self._table(table).rows
        bounds = ReadOptions()
        if end is not None:
            bounds.set_iterate_upper_bound(end)  # the lower bound is not usable: rocksdict sets the upper one instead
        if reverse:
            items = rows.items(backwards=True, read_opt=bounds)
        else:
            items = rows.items(from_key=start, read_opt=bounds)
        cursor = _Cursor(items)
        self._cursors.add(cursor)
        return self._scanned(table, cursor, start, end, reverse)

    def scan_many(self, table: str, ranges: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
        """Rows of several short ranges ``start <= key < end``, each in key order, with one iterator for all."""
        rows = self._table(table).rows
        found: list[list[tuple[bytes, bytes]]] = []
        try:
            position = rows.iter()
            for start, end in ranges:
                part = []
                position.seek(start)
                while position.valid() and (key := position.key()) < end:
                    part.append((key, position.value()))
                    position.next()
                position.status()
                found.append(part)
        except Exception as error:
            raise _failure(error, self.path, f'scan table "{table}"') from error
        return found

    def write(self, writes: TableWrites, offsets: Mapping[str, int]) -> None:
        """Write rows and changelog offsets: one atomic batch up to 10,000 rows or 4 MiB, else in chunks.

        Raises:
            StateStoreError: A table does not exist (nothing was written), or the disk failed or is full: then the
                engine must be opened again, and the rows since its offsets restored.
        """
        for _ in self.write_chunks(writes, offsets):
            pass

    def write_chunks(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """The same, one chunk for each step; gives the number of rows just written. Raises as `write`."""
        families = [(self._table(name).family, rows) for name, rows in writes.items()]
        batch = WriteBatch(raw_mode=True)
        for family, rows in families:
            batch.set_default_column_family(family)
            for keys in _sorted_in_parts(rows):
                if batch.len() + len(keys) > CHUNK_ROWS:
                    yield self._write_batch(batch)
                    batch = WriteBatch(raw_mode=True)
                    batch.set_default_column_family(family)
                for first in range(0, len(keys), _CHECK_BYTES_EVERY):
                    _add_rows(batch, rows, keys[first : first + _CHECK_BYTES_EVERY])
                    if batch.size_in_bytes() > CHUNK_BYTES:
                        yield self._write_batch(batch)
                        batch = WriteBatch(raw_mode=True)
                        batch.set_default_column_family(family)
        batch.set_default_column_family(None)
        written = batch.len()
        for store, offset in offsets.items():
            batch[_OFFSET_PREFIX + store.encode()] = _OFFSET.pack(offset)
        if not batch.is_empty():
            self._write_batch(batch)
            self._offsets.update(offsets)
            yield written

    def offsets(self) -> dict[str, int]:
        """Store name to the next changelog offset to apply."""
        return dict(self._offsets)

    def sync(self) -> None:
        """Make what was written survive a power loss. Blocks, without the GIL: call it in a thread."""
        try:
            self._db.flush_wal(True)
        except Exception as error:
            raise _failure(error, self.path, "sync the state") from error

    def close(self) -> None:
        """Close; scans under way fail at their next step. May block for the time of a flush: call it in a thread."""
        for cursor in list(self._cursors):
            cursor.rows = None
        self._tables.clear()  # a handle left over would keep the lock
        self._offsets.clear()
        # Closing flushes, which fails where the disk is full: no harm, since the log has every row. And it may be
        # closed already.
        with suppress(Exception):
            self._db.close()

    def destroy(self) -> None:
        """Close and delete the directory."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _load(self) -> None:
        try:
            version = self._db.get(_FORMAT_KEY)
            if version is None and not self._tables:
                self._db.put(_FORMAT_KEY, bytes([FORMAT_VERSION]))
                return
            position = self._db.iter()
            position.seek(_OFFSET_PREFIX)
            while position.valid() and position.key().startswith(_OFFSET_PREFIX):
                store = position.key().removeprefix(_OFFSET_PREFIX).decode()
                self._offsets[store] = _OFFSET.unpack(position.value())[0]
                position.next()
            position.status()
        except Exception as error:
            raise _failure(error, self.path, "read the offsets") from error
        if version is None:
            msg = f"tables but no format version in {self.path}"
            raise StateCorruptedError(msg)
        if version[0] != FORMAT_VERSION:
            msg = (
                f"the state in {self.path} has format {version[0]}, this version of streamlib reads {FORMAT_VERSION}:"
                " use the version that wrote it, or delete the directory to rebuild it from the changelogs"
            )
            raise StateStoreError(msg)

    def _write_batch(self, batch: WriteBatch) -> int:
        rows = batch.len()
        try:
            self._db.write(batch)
        except Exception as error:
            raise _failure(error, self.path, f"write {rows} rows") from error
        return rows

    def _scanned(
        self, table: str, cursor: _Cursor, start: bytes | None, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        last: bytes | None = None
        wanted = _FIRST_SCAN_ROWS
        while True:
            if cursor.rows is None:
                msg = f'the engine in {self.path} was closed while table "{table}" was being scanned'
                raise StateStoreError(msg)
            found = list(islice(cursor.rows, wanted))
            if reverse and start is not None and found and found[-1][0] < start:
                yield from (row for row in found if row[0] >= start)
                return
            if found:
                last = found[-1][0]
                yield from found
            if len(found) < wanted:
                break
            wanted = _SCAN_ROWS
        cursor.rows = None
        self._check_scan_end(table, last, start, end, reverse)

    def _check_scan_end(
        self, table: str, last: bytes | None, start: bytes | None, end: bytes | None, reverse: bool
    ) -> None:
        """Make sure that a scan ended because there were no more rows: rocksdict's iterators swallow read errors."""
        if table not in self._tables:
            return
        bounds = ReadOptions()
        if end is not None:
            bounds.set_iterate_upper_bound(end)
        try:
            position = self._tables[table].rows.iter(bounds)
            if last is None:
                if reverse:
                    position.seek_to_last()
                else:
                    position.seek(start or b"")
            elif reverse:
                position.seek_for_prev(last)
                position.prev()
            else:
                position.seek(last)
                position.next()
            position.status()
        except Exception as error:
            raise _failure(error, self.path, f'scan table "{table}"') from error

    def _table(self, name: str) -> _Table:
        try:
            return self._tables[name]
        except KeyError:
            msg = f'no table "{name}" in {self.path}: create it first (a closed engine has no tables)'
            raise StateStoreError(msg) from None


def _sorted_in_parts(rows: Mapping[bytes, bytes | None]) -> Iterator[list[bytes]]:
    """The keys, each part as many as a chunk: RocksDB inserts neighbours twice as fast, closer ones faster still."""
    every_key = iter(rows)
    while keys := list(islice(every_key, SORTED_ROWS)):
        keys.sort()
        for first in range(0, len(keys), CHUNK_ROWS):
            yield keys[first : first + CHUNK_ROWS]


def _add_rows(batch: WriteBatch, rows: Mapping[bytes, bytes | None], keys: list[bytes]) -> None:
    """Put rows into a batch, or delete them."""
    values = list(map(rows.__getitem__, keys))
    if not any_none(values):
        deque(map(batch.put, keys, values), maxlen=0)
        return
    for key, value in zip(keys, values, strict=True):
        if value is None:
            del batch[key]
        else:
            batch[key] = value


def set_aside(path: Path) -> Path:
    """Where a damaged directory now is: beside its old place, as ``<name>.corrupt-<ms of its last change>``.

    An earlier one of the same name is deleted, so that at most one is kept to be looked at.
    """
    for earlier in path.parent.glob(f"{path.name}.corrupt-*"):
        shutil.rmtree(earlier)
    return path.rename(path.with_name(f"{path.name}.corrupt-{path.stat().st_mtime_ns // 1_000_000}"))


def _failure(error: Exception, path: Path, what: str) -> StateStoreError:
    """The error of ours for one of RocksDB's, which are told apart by their text alone."""
    text = str(error)
    if "Corruption" in text:
        return StateCorruptedError(
            f"cannot {what} in {path}, whose files are damaged: {text}",
            path,
        )
    if "lock hold by current process" in text or "While lock file" in text:
        return StateDirLockedError(
            f"cannot {what} in {path}: it is open already ({text}); stop the other worker, or give this one its own"
            " state_dir"
        )
    if "No space left on device" in text:
        return DiskFullError(
            f"cannot {what} in {path}: the disk is full; free some space, nothing that was committed is lost ({text})"
        )
    return StateStoreError(f"cannot {what} in {path}: {text}")
