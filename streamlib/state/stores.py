"""From the description of a store to the store.

Next: `operators`, which read and write stores; `runtime/commit`, which takes their pending rows to the engine.
"""

from typing import Any

from streamlib.errors import StateStoreError
from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.change_buffer import ChangeBuffer
from streamlib.state.expiring import ExpiringKeyValueStore
from streamlib.state.join_buffer import JoinBuffer
from streamlib.state.join_window import JoinWindowStore
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.lru import LruKeyValueStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.session import SessionStore
from streamlib.state.spec import StoreSpec
from streamlib.state.unmatched import UnmatchedStore
from streamlib.state.versioned import VersionedStore
from streamlib.state.window import WindowTimestampedStore

AnyStore = (
    KeyValueTimestampedStore[Any]
    | WindowTimestampedStore[Any]
    | SessionStore[Any]
    | VersionedStore[Any]
    | ChangeBuffer[Any]
    | JoinBuffer
    | JoinWindowStore[Any]
    | UnmatchedStore
)


def open_store(
    spec: StoreSpec, engine: Engine, changelog: ChangelogWriter | None = None, *, cache_bytes: int = 0
) -> AnyStore:
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
    if spec.retain_duplicates:
        return _open_join_store(spec, engine, changelog, cache_bytes)
    if isinstance(engine, MemoryEngine):
        cache_bytes = 0
    if spec.max_entries is not None:
        return LruKeyValueStore(spec.name, spec.value_serde, engine, changelog, max_entries=spec.max_entries)
    if spec.kind == "buffer":
        return ChangeBuffer(spec.name, spec.value_serde, engine, changelog)
    if spec.kind == "join_buffer":
        return JoinBuffer(spec.name, engine, changelog)
    if spec.kind == "versioned":
        return VersionedStore(
            spec.name, spec.value_serde, engine, changelog, history_ms=spec.retention_ms, cache_bytes=cache_bytes
        )
    if spec.kind == "key_value" and spec.ttl_ms is not None:
        return ExpiringKeyValueStore(
            spec.name, spec.value_serde, engine, changelog, ttl_ms=spec.ttl_ms, cache_bytes=cache_bytes
        )
    if spec.kind == "key_value":
        return KeyValueTimestampedStore(spec.name, spec.value_serde, engine, changelog, cache_bytes=cache_bytes)
    if spec.kind == "window":
        return WindowTimestampedStore(
            spec.name,
            spec.value_serde,
            engine,
            changelog,
            retention_ms=spec.retention_ms + spec.inclusive_retention,
            cache_bytes=cache_bytes,
            time_ordered=spec.time_ordered,
        )
    if spec.kind == "session":
        return SessionStore(
            spec.name,
            spec.value_serde,
            engine,
            changelog,
            retention_ms=spec.retention_ms,
            cache_bytes=cache_bytes,
            exact_expiry=spec.exact_expiry,
        )
    msg = f"store {spec.name!r}: there is no store of kind {spec.kind!r}"
    raise StateStoreError(msg)


def _open_join_store(
    spec: StoreSpec, engine: Engine, changelog: ChangelogWriter | None, cache_bytes: int
) -> JoinWindowStore[Any] | UnmatchedStore:
    if spec.timestamped or spec.kind not in {"key_value", "window"}:
        msg = f"store {spec.name!r}: there is no {spec.kind} store that retains duplicates" + (
            " and timestamps" if spec.timestamped else ""
        )
        raise StateStoreError(msg)
    if spec.kind == "key_value":
        cache_bytes = 0 if isinstance(engine, MemoryEngine) else cache_bytes
        return UnmatchedStore(spec.name, engine, changelog, cache_bytes=cache_bytes)
    return JoinWindowStore(spec, engine, changelog, memory_bytes=cache_bytes)
