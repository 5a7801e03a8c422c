"""Versioned stores as user code sees them: the values of each key over time. Times are in ms.

Source: KIP-889, VersionedKeyValueStore. Next: `builders`, which describes stores.
"""

from typing import Any, Generic, Protocol, TypeVar

from streamlib.state.facade import Facade, Stamp
from streamlib.state.key_value_facade import ValueAndTimestamp
from streamlib.state.spec import StoreSpec

K = TypeVar("K")
V = TypeVar("V")


class VersionRows(Protocol):
    """What lies below: versions by key, as `state.versioned.VersionedStore` has them."""

    def get(self, key: bytes) -> tuple[Any, int] | None:
        """Value and time of the latest version."""

    def get_as_of(self, key: bytes, time: int) -> tuple[Any, int] | None:
        """Value and time of the version that was valid then."""

    def put(self, key: bytes, value: Any, timestamp: int) -> int:
        """Put one version and log it; until when it is valid."""

    def delete(self, key: bytes, timestamp: int) -> tuple[Any, int] | None:
        """Put a deletion; the version that was valid at that time."""


class ReadOnlyVersionedKeyValueStore(Facade[K, VersionRows], Generic[K, V]):
    """The values of each key over time; made by the runtime."""

    def get(self, key: K, as_of: int | None = None) -> ValueAndTimestamp[V] | None:
        """The value that was valid at ``as_of`` (None: the latest), and since when; None when there was none.

        None, too, for a time that is older than the history retention.
        """
        raw = self._raw(key)
        row = self._rows.get(raw) if as_of is None else self._rows.get_as_of(raw, as_of)
        return None if row is None else ValueAndTimestamp(*row)


class VersionedKeyValueStore(ReadOnlyVersionedKeyValueStore[K, V]):
    """The values of each key over time, to read and to write; made by the runtime."""

    def __init__(self, spec: StoreSpec, rows: VersionRows, stamp: Stamp) -> None:
        super().__init__(spec, rows)
        self._versions = rows
        self._stamp = stamp  # versions bring their own times: kept so that all facades are made alike

    def put(self, key: K, value: V | None, timestamp: int) -> int:
        """Set the value of a key from a time on, or delete it from then on (None).

        Returns:
            Until when it is valid (ms); -1 when it is the latest; -2**63 when it was left out, being older than the
            history retention.
        """
        return self._versions.put(self._raw(key), value, timestamp)

    def delete(self, key: K, timestamp: int) -> ValueAndTimestamp[V] | None:
        """Delete a key from a time on; the value that was valid at that time."""
        row = self._versions.delete(self._raw(key), timestamp)
        return None if row is None else ValueAndTimestamp(*row)
