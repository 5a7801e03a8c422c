"""The stores of a driver as a test sees them: to look at, or to fill before the first record.

What a test puts is logged and committed with the next record, and goes down the plan only if it is put into the store
of a cached table. Source: TopologyTestDriver.getKeyValueStore and the like. Next: `topology_test_driver`.
"""

from collections.abc import Mapping
from typing import Any

from streamlib.operators.store_access import facade_of
from streamlib.operators.table_rows import TableRows
from streamlib.state.base import StateStore
from streamlib.state.spec import StoreKind, StoreSpec


class Moment:
    """The time of a test's writes; implements `state.key_value_facade.Stamp`.

    Attributes:
        timestamp: In ms.
    """

    def __init__(self, timestamp: int) -> None:
        self.timestamp = timestamp


class StateStores:
    """Hands out stores.

    Args:
        specs: What the stores are, by name.
        opened: The opened stores of a task, and the global ones.
        tables: Those that are tables, with their write caches.
        global_stores: Names of the global stores, which can only be read.
        stream_time: Of the task: what a test writes happens then.
    """

    def __init__(
        self,
        specs: Mapping[str, StoreSpec],
        opened: Mapping[str, StateStore],
        tables: Mapping[str, TableRows],
        global_stores: frozenset[str],
        stream_time: int,
    ) -> None:
        self._specs = specs
        self._opened = opened
        self._tables = tables
        self._global_stores = global_stores
        self._moment = Moment(max(stream_time, 0))

    def get(self, name: str, kind: StoreKind | None = None, *, timestamps: bool | None = None) -> Any:
        """A store.

        Args:
            name: Its name.
            kind: What it must be; None for anything.
            timestamps: Whether to see values with their timestamps; None: as the store was built.

        Raises:
            LookupError: There is no such store.
            TypeError: It is of another kind, or has no timestamps.
        """
        spec = self._specs.get(name)
        if spec is None:
            known = ", ".join(sorted(self._specs)) or "none"
            msg = f'the topology has no store "{name}"; there are: {known}'
            raise LookupError(msg)
        if kind is not None and spec.kind != kind:
            msg = f'the store "{name}" is a {spec.kind} store, not a {kind} store'
            raise TypeError(msg)
        if timestamps and not spec.timestamped:
            msg = f'the store "{name}" has no timestamps: get it as a plain {spec.kind} store'
            raise TypeError(msg)
        seen = spec if timestamps is None else _seen(spec, timestamps=timestamps)
        writable = name not in self._global_stores
        return facade_of(seen, self._opened[name], self._tables.get(name), self._moment, writable)

    def all(self) -> dict[str, Any]:
        """All stores that user code can use, by name."""
        usable = {"key_value", "window", "session", "versioned", "custom"}
        return {
            name: self.get(name)
            for name, spec in self._specs.items()
            if spec.kind in usable and not spec.retain_duplicates
        }


def _seen(spec: StoreSpec, *, timestamps: bool) -> StoreSpec:
    return StoreSpec(
        name=spec.name,
        kind=spec.kind,
        key_serde=spec.key_serde,
        value_serde=spec.value_serde,
        timestamped=timestamps,
        window_size_ms=spec.window_size_ms,
    )
