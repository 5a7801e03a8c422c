"""Hands stores to user code: by name, by the type they were built with, and only those the processor may use.

Source: ProcessorContextImpl.getStateStore, AbstractReadOnlyDecorator. Next: `processor`, whose context asks here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from streamlib.errors import StateStoreError
from streamlib.operators.cached_rows import CachedRows
from streamlib.operators.cached_sessions import CachedSessions, WrittenSessions
from streamlib.operators.session_rows import SessionRows
from streamlib.operators.table_rows import TableRows
from streamlib.state.base import StateStore
from streamlib.state.custom import CustomStateStore
from streamlib.state.facade import Stamp
from streamlib.state.key_value_facade import (
    KeyValueStore,
    ReadOnlyKeyValueStore,
    ReadOnlyTimestampedKeyValueStore,
    TimestampedKeyValueStore,
)
from streamlib.state.session_facade import ReadOnlySessionStore, SessionStore
from streamlib.state.spec import StoreKind, StoreSpec
from streamlib.state.versioned_facade import ReadOnlyVersionedKeyValueStore, VersionedKeyValueStore
from streamlib.state.window_facade import (
    ReadOnlyTimestampedWindowStore,
    ReadOnlyWindowStore,
    TimestampedWindowStore,
    WindowStore,
)
from streamlib.topology.topology import Topology

FACADES: Mapping[tuple[StoreKind, bool], tuple[Callable[..., Any], Callable[..., Any]]] = {
    ("key_value", False): (ReadOnlyKeyValueStore, KeyValueStore),
    ("key_value", True): (ReadOnlyTimestampedKeyValueStore, TimestampedKeyValueStore),
    ("window", False): (ReadOnlyWindowStore, WindowStore),
    ("window", True): (ReadOnlyTimestampedWindowStore, TimestampedWindowStore),
    ("session", False): (ReadOnlySessionStore, SessionStore),
    ("session", True): (ReadOnlySessionStore, SessionStore),
    ("versioned", True): (ReadOnlyVersionedKeyValueStore, VersionedKeyValueStore),
}
"""Kind of store, and whether its rows show timestamps, to the facade that only reads and the one that writes too."""


class StoreAccess:
    """The stores that one node may use.

    Args:
        topology: The plan.
        stores: Every store of the task, and the global ones.
        tables: Those of them that are tables.
        node: Name of the node, for messages.
        used: Names of the stores the node may write.
    """

    def __init__(
        self,
        topology: Topology,
        stores: Mapping[str, StateStore],
        tables: Mapping[str, TableRows],
        node: str,
        used: tuple[str, ...],
    ) -> None:
        self._topology = topology
        self._stores = stores
        self._tables = tables
        self._node = node
        self._used = used

    def get(self, name: str, stamp: Stamp) -> Any:
        """A store of the node, or a global one to read.

        Raises:
            StateStoreError: The node may not use it, or it does not exist.
        """
        writable = name in self._used
        if not writable and name not in self._global_stores():
            mine = ", ".join(f'"{used}"' for used in self._used) or "none"
            what = "is not connected with it" if name in self._topology.stores else "does not exist"
            msg = (
                f'"{self._node}" asks for the store "{name}", which {what} (connected: {mine}). Name the store in the '
                "operation, e.g. process(supplier, store), or let the supplier bring it"
            )
            raise StateStoreError(msg)
        return facade_of(self._topology.stores[name], self._stores[name], self._tables.get(name), stamp, writable)

    def spec(self, name: str) -> StoreSpec:
        """What a store of the node is.

        Raises:
            StateStoreError: The node has no such store.
        """
        if name not in self._used:
            msg = f'"{self._node}" has no store "{name}" of its own: let its supplier bring it'
            raise StateStoreError(msg)
        return self._topology.stores[name]

    def _global_stores(self) -> set[str]:
        return {name for part in self._topology.subtopologies if part.is_global for name in part.stores}


def facade_of(spec: StoreSpec, store: StateStore, table: TableRows | None, stamp: Stamp, writable: bool) -> Any:
    """A store as user code sees it.

    Args:
        spec: What it is.
        store: The opened store.
        table: Its rows with their cache, if it is a table.
        stamp: Tells the time of writes.
        writable: Whether user code may write.

    Raises:
        StateStoreError: User code cannot use stores of its kind.
    """
    if isinstance(store, CustomStateStore):
        return store.user
    facades = FACADES.get((spec.kind, spec.timestamped))
    if facades is None or spec.retain_duplicates:
        msg = f'the store "{spec.name}" is a {spec.kind} store, which processors cannot use'
        raise StateStoreError(msg)
    rows: Any = store
    if isinstance(table, SessionRows):
        cache = table.session_cache
        rows = WrittenSessions(table) if cache is None else CachedSessions(table, cache)
    elif table is not None and table.cache is not None:
        rows = CachedRows(table, table.cache)
    read_only, read_write = facades
    return read_write(spec, rows, stamp) if writable else read_only(spec, rows)
