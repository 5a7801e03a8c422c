"""From the description of a store to the store.

Next: `operators`, which read and write stores; `runtime/commit`, which takes their pending rows to the engine.
"""

from typing import Any

from streamlib.errors import StateStoreError
from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.spec import StoreSpec
from streamlib.state.window import WindowTimestampedStore

AnyTimestampedStore = KeyValueTimestampedStore[Any] | WindowTimestampedStore[Any]


def open_store(
    spec: StoreSpec, engine: Engine, changelog: ChangelogWriter | None = None, *, cache_bytes: int = 0
) -> AnyTimestampedStore:
    """The store that ``spec`` describes, with what the engine has of it.

    Args:
        spec: From the topology.
        engine: The task's engine: the persistent one or the one in memory, as ``spec.persistent`` says.
        changelog: Where updates are logged; left out for a store without logging, and for one whose source topic is
            its changelog.
        cache_bytes: Memory for clean rows; nothing is kept over an engine in memory.

    Raises:
        StateStoreError: There is no store of that kind.
    """
    if not spec.timestamped or spec.retain_duplicates:
        kind = "without timestamps" if not spec.timestamped else "that retains duplicates"
        msg = f"store {spec.name!r}: there is no {spec.kind} store {kind}"
        raise StateStoreError(msg)
    if isinstance(engine, MemoryEngine):
        cache_bytes = 0
    if spec.kind == "key_value":
        return KeyValueTimestampedStore(spec.name, spec.value_serde, engine, changelog, cache_bytes=cache_bytes)
    if spec.kind == "window":
        return WindowTimestampedStore(
            spec.name,
            spec.value_serde,
            engine,
            changelog,
            retention_ms=spec.retention_ms,
            cache_bytes=cache_bytes,
        )
    msg = f"store {spec.name!r}: there is no store of kind {spec.kind!r}"
    raise StateStoreError(msg)
