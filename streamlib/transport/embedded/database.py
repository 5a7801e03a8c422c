"""The SQLite database of an embedded broker: its tables, and transactions on it. Next: `topics`, `log`."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlib.errors import BrokerUnavailableError, TransportError

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_SECONDS = 10.0
_PAGE_BYTES = 16_384
_CHECKPOINT_PAGES = 256
_WAL_LIMIT_BYTES = 64 * 1024 * 1024

_SCHEMA = """
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    configs TEXT NOT NULL,
    max_message_bytes INTEGER NOT NULL
);
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0,
    end_offset INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    partition_id INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    max_timestamp INTEGER NOT NULL,
    transaction_id INTEGER,
    columns BLOB NOT NULL
);
CREATE UNIQUE INDEX batches_by_offset ON batches (partition_id, next_offset);
CREATE TABLE garbage (
    partition_id INTEGER PRIMARY KEY,
    before_offset INTEGER NOT NULL
);
CREATE TABLE producers (
    transactional_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
);
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    transactional_id TEXT NOT NULL UNIQUE,
    expires_ms INTEGER NOT NULL
);
CREATE TABLE open_partitions (
    transaction_id INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    PRIMARY KEY (transaction_id, partition_id)
);
CREATE TABLE pending_offsets (
    transaction_id INTEGER NOT NULL,
    group_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (transaction_id, group_id, topic, partition)
);
CREATE TABLE committed_offsets (
    group_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (group_id, topic, partition)
);
"""


class Database:
    """An open database; used by one thread only, the one that opened it.

    Args:
        path: The file, made when missing; None keeps everything in memory.

    Raises:
        BrokerUnavailableError: The file cannot be opened or made.
        TransportError: It is not a broker's database, or of a newer streamlib.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._place = "memory" if path is None else str(path)
        with self._explained():
            self.connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_TIMEOUT_SECONDS,
                isolation_level=None,
                # One in memory is closed by the garbage collector, wherever that runs.
                check_same_thread=path is not None,
            )
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise

    def close(self) -> None:
        """Close it; what was committed stays."""
        self.connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All queries inside see the same moment."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All changes inside happen together or not at all; an exception undoes them."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._explained():
            self.connection.execute(begin)
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        connection = self.connection
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing this way. A machine that loses power may lose the last commits, whole ones.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        with self.writing():
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if version not in {0, SCHEMA_VERSION}:
            msg = (
                f"{self._place} has format {version}, this streamlib reads format {SCHEMA_VERSION}: "
                "use the streamlib version that wrote it, or another directory"
            )
            raise TransportError(msg)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            msg = f"cannot use {self._place} ({error}): check that the disk has space and the file may be written"
            raise BrokerUnavailableError(msg) from error
        except sqlite3.DatabaseError as error:
            msg = f"{self._place} is not a sound database of a broker ({error}): restore it from a backup"
            raise TransportError(msg) from error
