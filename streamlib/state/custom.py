"""Stores of the user's own make: what the user writes, and what the runtime sees of it.

Such a store keeps its rows where it likes, usually in memory, and logs to its changelog what it needs to be made again.
The runtime knows nothing of its rows, so it cannot take back what was not committed: when work is dropped the store is
closed, a new one is made, and takes the changelog from its beginning; so it does whenever a task begins. Only that of a
standby goes on from where it is.

Source: StoreBuilder, StateStore, StateRestoreCallback, ``Topology.addStateStore``. Next: `stores`, which opens it.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

from streamlib.errors import StateStoreError
from streamlib.state.base import ChangelogWriter, TableWrites
from streamlib.state.memory import MemoryEngine

log = logging.getLogger(__name__)


class CustomStoreContext:
    """What a custom store is told, and where it logs; valid from its ``init`` to its ``close``.

    Args:
        name: The store's name.
        task_id: Of the task it belongs to, e.g. ``0_3``.
        changelog: Where updates go; None for a store without logging.

    Attributes:
        name: The same.
        task_id: The same.
    """

    def __init__(self, name: str, task_id: str, changelog: ChangelogWriter | None) -> None:
        self.name = name
        self.task_id = task_id
        self._changelog = changelog
        self._ended = False

    def log(self, key: bytes, value: bytes | None, timestamp: int) -> None:
        """Write an update to the changelog; nothing happens without one.

        Args:
            key: The changelog is compacted: only the last update of each key is sure to come back.
            value: None deletes.
            timestamp: Of the record that has caused it, in ms.

        Raises:
            StateStoreError: The store is closed.
        """
        self.log_many([key], [value], [timestamp])

    def log_many(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Write several updates, in order; the same otherwise.

        Raises:
            StateStoreError: The store is closed.
        """
        if self._ended:
            msg = f'the store "{self.name}" is closed and cannot log: task={self.task_id}. Log before close, in flush'
            raise StateStoreError(msg)
        if self._changelog is not None:
            self._changelog.append(keys, values, timestamps)

    def _end(self) -> None:
        """Take no more updates."""
        self._ended = True


class CustomStore(ABC):
    """A store that a user writes; one for each task. `ProcessorContext.get_state_store` gives it as it is.

    Reading and writing are methods of its own, which log what must come back after a restart with ``context.log``.

    Attributes:
        context: Set by `init`.
    """

    context: CustomStoreContext

    def init(self, context: CustomStoreContext) -> None:
        """Begin, empty: what the changelog has comes next, by `restore`."""
        self.context = context

    @abstractmethod
    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Take updates from the changelog, in order, without logging them; called until all have come.

        Of keys that were logged several times earlier updates may be missing. Never called without logging.
        """

    def flush(self) -> None:  # noqa: B027  # most stores hold nothing back
        """Log, or write out, what was held back: the input is committed next. Must not take records back."""

    def close(self) -> None:  # noqa: B027  # nor anything to let go
        """End: the task goes away, or work was dropped and a new store takes the place of this one."""


class CustomStateStore:
    """A custom store as the runtime sees it; implements `state.base.StateStore`.

    Args:
        name: The store's name.
        supplier: Makes a new store of the user's.
        task_id: Of the task.
        changelog: Where updates are logged; None for a store without logging.

    Attributes:
        expired: How many rows came too late to be kept; none do.
        made: How many stores of the user's were made so far.

    Raises:
        StateStoreError: The user's code raised.
    """

    def __init__(
        self, name: str, supplier: Callable[[], CustomStore], task_id: str, changelog: ChangelogWriter | None
    ) -> None:
        self.expired = 0
        self.made = 0
        self._name = name
        self._supplier = supplier
        self._task_id = task_id
        self._changelog = changelog
        self._open()

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def user(self) -> CustomStore:
        """The user's store, until work is dropped."""
        self._used = True
        return self._store

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Have the user's store take changelog records."""
        if not keys:
            return
        self._ahead = True
        try:
            self._store.restore(keys, values, timestamps)
        except Exception as error:
            raise self._failed("take what its changelog has", error) from error

    def flush(self) -> None:
        """Have it log and write out everything, before a commit."""
        try:
            self._store.flush()
        except Exception as error:
            raise self._failed("flush", error) from error

    def pending(self) -> TableWrites:
        """No rows: the user's store keeps them."""
        return {}

    def applied(self) -> None:
        """What was restored is counted by its engine."""
        self._ahead = False

    @property
    def pending_rows(self) -> int:
        """None are."""
        return 0

    def discard(self) -> None:
        """Begin again with an empty store, unless it has nothing but what was restored."""
        if self._used or self._ahead:
            self.close()
            self._open()

    def close(self) -> None:
        """Close the user's store. What it raises is logged: it goes away all the same."""
        self._context._end()
        try:
            self._store.close()
        except Exception as error:
            log.warning("a store could not be closed: store=%s task=%s: %r", self._name, self._task_id, error)

    def _open(self) -> None:
        self._used = False  # since then it may have what was not committed
        self._ahead = False  # of the offset that its engine has
        self.made += 1
        self._context = CustomStoreContext(self._name, self._task_id, self._changelog)
        try:
            self._store = self._supplier()
            self._store.init(self._context)
        except Exception as error:
            raise self._failed("begin", error) from error

    def _failed(self, what: str, error: Exception) -> StateStoreError:
        return StateStoreError(f'the store "{self._name}" could not {what}, {error!r}: task={self._task_id}')


class CustomEngine(MemoryEngine):
    """Stands for the place where a custom store keeps its rows: it knows how much of the changelog the store has.

    Args:
        store: Is closed with it.
    """

    def __init__(self, store: CustomStateStore) -> None:
        super().__init__()
        self._store = store
        self._made = store.made

    def write_chunks(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """Keep the offset; there are no rows."""
        self.offsets()
        return super().write_chunks(writes, offsets)

    def offsets(self) -> dict[str, int]:
        """The changelog offset of the store; none when another one has taken its place."""
        if self._made != self._store.made:
            self._made = self._store.made
            self._offsets.clear()
        return super().offsets()

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def destroy(self) -> None:
        """The same."""
        self.close()


class FlushedAtCommit:
    """Has a custom store log what it holds back; implements `state.base.PendingLog`.

    Args:
        store: Which one.
    """

    def __init__(self, store: CustomStateStore) -> None:
        self._store = store

    def log(self, *, commit: bool) -> None:
        """Flush the store before a commit."""
        if commit:
            self._store.flush()

    def discard(self) -> None:
        """Nothing: the store is discarded itself."""
