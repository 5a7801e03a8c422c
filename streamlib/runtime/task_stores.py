"""The stores of a task: opened on its engines, applied in one atomic batch after a commit, dropped after an error.

Next: `restore`, which fills them from the changelogs; `commit`, which applies them.
"""

import logging
from collections.abc import Iterator, Mapping

from streamlib.errors import StateCorruptedError
from streamlib.record import TopicPartition
from streamlib.state.base import Engine, TimestampedStore
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import set_aside

log = logging.getLogger(__name__)


def open_engine(directory: StateDirectory, task_id: str, *, persistent: bool) -> Engine:
    """A task's engine; a corrupt one is set aside, and an empty one takes its place.

    Raises:
        StateStoreError: It cannot be opened for another reason.
    """
    try:
        return directory.open_engine(task_id, persistent)
    except StateCorruptedError as error:
        aside = set_aside(directory.task_path(task_id))
        log.error("%s. Set aside as %s; the state is rebuilt from its changelogs.", error, aside)
        return directory.open_engine(task_id, persistent)


class TaskStores:
    """Stores by name, the engines they live in, and their changelog partitions.

    Attributes:
        stores: Opened stores by name.
        changelogs: Changelog partition of each store that has one.
    """

    def __init__(
        self,
        stores: Mapping[str, TimestampedStore[object]],
        engines: Mapping[str, Engine],
        changelogs: Mapping[str, TopicPartition],
    ) -> None:
        self.stores = dict(stores)
        self.changelogs = dict(changelogs)
        self._engine_of = dict(engines)
        self._engines: list[Engine] = list({id(engine): engine for engine in engines.values()}.values())

    @property
    def pending_rows(self) -> int:
        """Rows written since the last commit."""
        return sum(store.pending_rows for store in self.stores.values())

    def offset(self, store: str) -> int | None:
        """The changelog offset up to which the engine holds this store; None when it was never written."""
        return self._engine_of[store].offsets().get(store)

    def apply(self, acknowledged: Mapping[TopicPartition, int]) -> Iterator[int]:
        """Write what is pending, with the changelog offsets, in one atomic batch for each engine.

        Yields between chunks of a large batch, so that the caller can let the event loop run.

        Args:
            acknowledged: The offset after the last acknowledged record of each changelog written to.
        """
        for engine in self._engines:
            mine = [name for name in self.stores if self._engine_of[name] is engine]
            writes = {table: rows for name in mine for table, rows in self.stores[name].pending().items()}
            offsets = {
                name: acknowledged[tp]
                for name in mine
                if (tp := self.changelogs.get(name)) is not None and tp in acknowledged
            }
            if writes or offsets:
                yield from engine.write_chunks(writes, offsets)
            for name in mine:
                self.stores[name].applied()

    def apply_restored(self, store: str, offset: int) -> Iterator[int]:
        """Write restored rows of one store, with the changelog offset they lead up to."""
        yield from self._engine_of[store].write_chunks(self.stores[store].pending(), {store: offset})
        self.stores[store].applied()

    def discard(self) -> None:
        """Drop everything since the last commit."""
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
