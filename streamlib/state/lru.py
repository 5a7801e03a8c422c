"""A key-value store in memory that holds at most so many keys, and forgets the one that was not used for longest.

Reading and writing a key uses it. Forgetting is a deletion, also in the changelog; so a restart brings back the same
keys, though in the order of their last writes. Source: MemoryLRUCache, ChangeLoggingKeyValueBytesStore.
Next: `stores`, which opens it.
"""

from collections.abc import Sequence
from typing import TypeVar

from streamlib.record import Headers
from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.key_value import KeyValueTimestampedStore

V = TypeVar("V")


class LruKeyValueStore(KeyValueTimestampedStore[V]):
    """A `KeyValueTimestampedStore` of bounded size.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: The task's engine in memory.
        changelog: Where updates are logged; None for a store without logging.
        max_entries: How many keys it may hold.
    """

    keeps_all = False

    def __init__(
        self, name: str, value_serde: Serde[V], engine: Engine, changelog: ChangelogWriter | None, *, max_entries: int
    ) -> None:
        self._max_entries = max_entries
        self._used: dict[bytes, None] = {}  # the key that was not used for longest comes first
        super().__init__(name, value_serde, engine, changelog)

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Rows, in the order of ``keys``; those that are there count as used."""
        rows = super().get_many(keys)
        for key, row in zip(keys, rows, strict=True):
            if row is not None:
                self._use(key)
        return rows

    def put_serialized(
        self,
        keys: list[bytes],
        plain: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Write rows and log them, in order; None deletes. Keys for which there is no room are deleted."""
        super().put_serialized(keys, plain, timestamps, headers)
        for key, value, timestamp in zip(keys, plain, timestamps, strict=True):
            if value is None:
                self._used.pop(key, None)
                continue
            self._use(key)
            if len(self._used) > self._max_entries:
                eldest = next(iter(self._used))
                del self._used[eldest]
                super().put_serialized([eldest], [None], [timestamp])

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records, without logging them again."""
        super().restore(keys, values, timestamps)
        for key, value in zip(keys, values, strict=True):
            if value is None:
                self._used.pop(key, None)
            else:
                self._use(key)

    def _use(self, key: bytes) -> None:
        self._used.pop(key, None)
        self._used[key] = None

    def _open(self) -> None:
        super()._open()
        self._used = dict.fromkeys(key for key, _, _ in self.scan())
