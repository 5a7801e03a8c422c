"""The stores of a task: opened on its engines, applied in one atomic batch after a commit, dropped after an error.

Next: `restore`, which fills them from the changelogs; `commit`, which applies them.
"""

import logging
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from traceback import clear_frames

from streamlib.errors import StateCorruptedError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.serdes.base import AnySerde
from streamlib.state.base import PendingLog, StateStore, TaskEngine
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import set_aside

log = logging.getLogger(__name__)


def open_engine(directory: StateDirectory, task_id: str, *, persistent: bool) -> TaskEngine:
    """A task's engine; a corrupt one is set aside, and an empty one takes its place.

    Raises:
        StateStoreError: It cannot be opened for another reason.
    """
    try:
        return directory.open_engine(task_id, persistent)
    except StateCorruptedError as error:
        set_damaged_aside(directory.task_path(task_id), error)
        return directory.open_engine(task_id, persistent)


def let_go(error: BaseException | None) -> None:
    """Forget what an error has seen on its way: handles of an engine among it would keep the engine from closing."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__


def set_damaged_aside(path: Path, error: StateCorruptedError) -> None:
    """Move a damaged directory, which must not be open, out of the way, and say so."""
    log.error("%s. Set aside as %s; the state is rebuilt from its changelogs.", error, set_aside(path))


class TaskStores:
    """Stores by name, the engines they live in, and their changelog partitions.

    Attributes:
        stores: Opened stores by name.
        changelogs: Changelog partition of each store that has one.

    ``source_serdes`` are those of stores whose changelog is a topic of others, by store.
    """

    def __init__(
        self,
        stores: Mapping[str, StateStore],
        engines: Mapping[str, TaskEngine],
        changelogs: Mapping[str, TopicPartition],
        logs: Collection[PendingLog] = (),
        source_serdes: Mapping[str, tuple[AnySerde, AnySerde]] | None = None,
    ) -> None:
        self.stores = dict(stores)
        self._source_serdes = source_serdes or {}
        self._logs = logs
        self.changelogs = dict(changelogs)
        self._engine_of = dict(engines)
        self._acknowledged: dict[str, int] = {}
        self._told_expired: dict[str, int] = dict.fromkeys(stores, 0)
        self._engines: list[TaskEngine] = list({id(engine): engine for engine in engines.values()}.values())

    def log(self, *, commit: bool = False) -> None:
        """Log what user code has written, once for each run of records and before each commit."""
        for changelog in self._logs:
            changelog.log(commit=commit)

    @property
    def pending_rows(self) -> int:
        """Rows that the engines do not have yet."""
        return sum(store.pending_rows for store in self.stores.values())

    def take_expired(self) -> dict[str, int]:
        """For each store, rows that came too late to be kept, since the last call; only stores that have some."""
        taken = {name: store.expired - self._told_expired[name] for name, store in self.stores.items()}
        self._told_expired = {name: store.expired for name, store in self.stores.items()}
        return {name: count for name, count in taken.items() if count}

    def offset(self, store: str) -> int | None:
        """The changelog offset up to which the engine holds this store; None when it was never written."""
        return self._engine_of[store].offsets().get(store)

    @property
    def held(self) -> int:
        """Sum of the offsets up to which the engines hold the changelogs, or will when this commit is applied."""
        return sum(self._acknowledged.get(name) or self.offset(name) or 0 for name in self.changelogs)

    @property
    def source_changelogs(self) -> frozenset[TopicPartition]:
        """The changelogs that are topics of others."""
        return frozenset(self.changelogs[store] for store in self._source_serdes)

    def acknowledged(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note that the changelogs have every row written so far.

        Args:
            offsets: The offset after the last acknowledged record of each changelog written to.
        """
        for name, tp in self.changelogs.items():
            if tp in offsets:
                self._acknowledged[name] = offsets[tp]

    def apply(self) -> Iterator[int]:
        """Write what is pending, with the changelog offsets, in one atomic batch for each engine.

        Only when the changelogs have it all: right after `acknowledged`. Yields between chunks of a large batch, so
        that the caller can let the event loop run.
        """
        offsets, self._acknowledged = self._acknowledged, {}
        for engine in self._engines:
            mine = [name for name in self.stores if self._engine_of[name] is engine]
            writes = {table: rows for name in mine for table, rows in self.stores[name].pending().items()}
            held = {name: offsets[name] for name in mine if name in offsets}
            if writes or held:
                yield from engine.log(writes, held)
            for name in mine:
                self.stores[name].applied()

    def restore(self, store: str, keys: list[bytes | None], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records; those without a key, which are not streamlib's, are left out.

        A topic that was not made as a changelog may hold more: values that mean none, keys that the serde would write
        in another way, and records that do not decode, which were skipped when they were processed.
        """
        if store in self._source_serdes:
            keys, values, timestamps = _as_stored(keys, values, timestamps, *self._source_serdes[store])
        elif None in keys:
            rows = [row for row, key in enumerate(keys) if key is not None]
            keys, values = [keys[row] for row in rows], [values[row] for row in rows]
            timestamps = [timestamps[row] for row in rows]
        self.stores[store].restore(keys, values, timestamps)  # type: ignore[arg-type]

    def restore_up_to(self, store: str, batch: FetchedBatch, end: int) -> int:
        """Apply those records of a changelog that lie before ``end``; gives the offset up to which that leads."""
        count = len(batch) if batch.next_offset <= end else bisect_left(batch.offsets, end)
        self.restore(store, batch.keys[:count], batch.values[:count], batch.timestamps[:count])
        return min(batch.next_offset, end)

    def apply_restored(self, store: str, offset: int) -> Iterator[int]:
        """Write restored rows of one store, with the changelog offset they lead up to."""
        yield from self._engine_of[store].write_chunks(self.stores[store].pending(), {store: offset})
        self.stores[store].applied()

    def discard(self) -> None:
        """Drop what the engines do not have; what was committed of it comes back from the changelogs."""
        self._acknowledged = {}
        for changelog in self._logs:
            changelog.discard()
        for store in self.stores.values():
            store.discard()

    def close(self) -> None:
        """Close the engines."""
        for engine in self._engines:
            engine.close()

    def destroy(self) -> None:
        """Close the engines and delete what they hold: the task will be rebuilt from its changelogs."""
        for engine in self._engines:
            engine.destroy()


def _as_stored(
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    timestamps: Sequence[int],
    key_serde: AnySerde,
    value_serde: AnySerde,
) -> tuple[list[bytes | None], list[bytes | None], list[int]]:
    """Records of a topic of others as a table made of it has them."""
    kept_keys: list[bytes | None] = []
    kept_values: list[bytes | None] = []
    kept_timestamps: list[int] = []
    for key, value, timestamp in zip(keys, values, timestamps, strict=True):
        if key is None:
            continue
        try:
            plain_key = key_serde.deserialize(key)
            row = value if value is None or value_serde.deserialize(value) is not None else None
        except Exception:  # noqa: S112  # it was reported and skipped when it was processed
            continue
        if plain_key is not None:
            kept_keys.append(key_serde.serialize(plain_key))
            kept_values.append(row)
            kept_timestamps.append(timestamp)
    return kept_keys, kept_values, kept_timestamps
