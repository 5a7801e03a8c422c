"""The contracts of state: an engine keeps sorted byte tables, a bytes store adds overlay and changelog, a typed store
adds serdes and timestamps. Operators see typed stores; they address rows by *store key*, the serialized key (for window
stores ``key | window start int64 | sequence int32``, for sessions ``key | end int64 | start int64``), because that is
what every layer below, and the changelog, uses.

Writes go to the overlay; the engine gets them, together with the changelog offsets, in one atomic batch after the
commit (architecture D4). So the engine is always the fold of the committed changelog up to the offset it stores.

Next: `memory` and `rocksdb` (engines), `stores` (overlay, changelog, serdes), `cache`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from streamlib.record import Headers

V = TypeVar("V")

TableWrites = Mapping[str, Mapping[bytes, bytes | None]]
"""Table name to rows; None deletes a row."""


class Engine(Protocol):
    """Sorted byte tables of one task. Keys compare as unsigned bytes."""

    def tables(self) -> list[str]:
        """Names of all tables that exist."""

    def create(self, table: str) -> None:
        """Make a table unless it exists."""

    def drop(self, table: str) -> None:
        """Remove a table and give its space back; nothing happens when there is none."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """One row."""

    def get_many(self, table: str, keys: list[bytes]) -> list[bytes | None]:
        """Rows, in the order of ``keys``."""

    def scan(
        self, table: str, start: bytes | None, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key < end`` (None: no bound) in key order, as of the moment of the call."""

    def scan_many(self, table: str, ranges: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
        """Rows of several short ranges ``start <= key < end``, each in key order; cheaper than as many scans."""

    def write(self, writes: TableWrites, offsets: Mapping[str, int]) -> None:
        """Write rows and changelog offsets (store name to next offset) in one atomic batch.

        A large batch may be applied in chunks; the offsets come with the last one.
        """

    def write_chunks(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """The same, one chunk for each step of the iterator, which gives the number of rows just written.

        An event loop may do other work between the steps. Neither ``writes`` nor its rows may change until the
        iterator is exhausted; until then nothing vouches for the offsets.
        """

    def offsets(self) -> dict[str, int]:
        """Store name to the next changelog offset to apply; a store that was never written is missing."""

    def sync(self) -> None:
        """Make what was written survive a power loss. Blocks: call it in a thread."""

    def close(self) -> None:
        """Close; the engine cannot be used afterwards."""

    def destroy(self) -> None:
        """Close and delete everything."""


class TaskEngine(Engine, Protocol):
    """An engine that takes commits: rows of which many are soon written again."""

    def log(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """As `write_chunks`, but rows may wait on their way to their tables, where they are neither lost nor unseen."""


class ChangelogWriter(Protocol):
    """Where a store logs its updates; implemented by the runtime on top of a producer."""

    def append(
        self,
        keys: list[bytes],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Log updates in order: store keys, plain values (None deletes), record timestamps, headers if any."""


class PendingLog(Protocol):
    """Updates that wait before they are logged."""

    def log(self, *, commit: bool) -> None:
        """Hand on what was kept; what waits for a commit only if it is one."""

    def discard(self) -> None:
        """Forget what was kept."""


class StateStore(Protocol):
    """What the runtime needs of every opened store, whatever its type."""

    @property
    def name(self) -> str:
        """The store's name."""

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging them again."""

    def pending(self) -> TableWrites:
        """The overlay's rows since the last `applied`, for the next atomic batch."""

    def applied(self) -> None:
        """The rows of `pending` are in the engine: forget them here (the read cache may keep some)."""

    def discard(self) -> None:
        """Forget the overlay and every cached row: the work since the last commit is dropped."""

    @property
    def pending_rows(self) -> int:
        """How many rows the overlay holds."""

    expired: int
    """How many rows came too late to be kept, since the store was opened."""


class TimestampedStore(StateStore, Protocol, Generic[V]):
    """Rows with a value and a timestamp, by store key: key-value stores and window stores alike.

    A window store silently ignores (and counts as ``expired``) rows whose window is past its retention.
    """

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and timestamp (ms) of a row."""

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Rows, in the order of ``keys``."""

    def put_many(self, keys: list[bytes], values: list[V | None], timestamps: list[int]) -> None:
        """Write rows and log them, in order; None deletes. Later rows of the same key win."""

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Rows with ``start <= key < end``, in key order (window stores: in key order within each segment)."""
