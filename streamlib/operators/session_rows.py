"""The rows of one session table in one task: its store, and the write cache over it when there is one.

All operators of a task that write one session store (those of a cogroup) share this. Next: `session_aggregate`.
"""

from collections.abc import Sequence
from typing import Any

from streamlib.operators.table_rows import Row, TableRows
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.session import SessionStore
from streamlib.state.session_cache import Session, SessionCache
from streamlib.state.session_keys import session_store_key
from streamlib.state.spec import StoreSpec


def session_rows(spec: StoreSpec, store: Any, *, memory: CacheMemory | None, send_old: bool) -> "SessionRows":
    """The rows of a session store; without memory for a cache, updates are written and passed on at once."""
    cache = None
    if memory is not None:
        cache = SessionCache(store, spec.value_serde, memory=memory, send_old=send_old)
    return SessionRows(spec, store, cache)


class SessionRows(TableRows):
    """Sessions by store key; the timestamp of each is its end.

    Attributes:
        sessions: The store.
        session_cache: Its write cache, or None: then updates are written and passed on at once.
        known: Without a write cache, what the store has of the keys that were used last.
        wants_origins: Whether an operator below may ask where cached updates came from.
    """

    def __init__(self, spec: StoreSpec, store: SessionStore[Any], cache: SessionCache[Any] | None) -> None:
        super().__init__(spec, store, None)
        self.sessions = store
        self.session_cache = cache
        self.known: dict[bytes, list[Session]] = {}
        self.wants_origins = False

    def raw_keys(self, keys: list[Any]) -> list[bytes]:
        """The store keys of `Windowed` keys, none of which is None."""
        plain: list[Any] = self.spec.key_serde.serialize_many([key.key for key in keys])
        return [session_store_key(raw, key.start, key.end) for raw, key in zip(plain, keys, strict=True)]

    def get_many(self, keys: list[bytes]) -> Sequence[Row | None]:
        """Values and ends as they are now, in the order of ``keys``; values are the caller's own."""
        return (self.session_cache or self.sessions).get_many(keys)

    def discard(self) -> None:
        """Forget what the cache holds, and what is known of the store."""
        self.known.clear()
        if self.session_cache is not None:
            self.session_cache.discard()
