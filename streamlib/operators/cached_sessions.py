"""A table's sessions for user code: those of the write cache over those of the store, to find and to write.

Source: CachingSessionStore. Next: `store_access`, which hands stores to processors.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from streamlib.operators.session_rows import SessionRows
from streamlib.state.session_cache import Session, SessionCache, session_at
from streamlib.state.session_facade import MAX_TIME
from streamlib.state.session_keys import session_store_key, split_session_store_key


class CachedSessions:
    """Sessions by store key; implements `state.session_facade.SessionRows`.

    Args:
        rows: The store.
        cache: Its write cache.
    """

    def __init__(self, rows: SessionRows, cache: SessionCache[Any]) -> None:
        self._rows = rows
        self._cache = cache

    def fetch_session(self, key: bytes, start: int, end: int) -> Any:
        """The value of the session with exactly these bounds."""
        row = self._cache.get_many([session_store_key(key, start, end)])[0]
        return None if row is None else row[0]

    def put_many(self, keys: list[bytes], values: list[Any], timestamps: list[int]) -> None:
        """Update sessions in the cache; the next flush writes them and sends them down the plan."""
        cache, deserialize = self._cache, self._rows.spec.key_serde.deserialize
        for store_key, value, timestamp in zip(keys, values, timestamps, strict=True):
            key, start, end = split_session_store_key(store_key)
            session = Session(key, start, end, value)
            session.name, session.timestamp = deserialize(key), timestamp
            sessions = cache.sessions_of([key]).get(key, [])
            if value is not None:
                cache.replace((), session)
            elif (there := session_at(sessions, start, end)) is not None:
                cache.remove([there], session)

    def find_sessions(
        self, key: bytes, earliest_end: int = 0, latest_start: int = MAX_TIME, *, reverse: bool = False
    ) -> Iterator[tuple[int, int, Any]]:
        """The sessions of a plain key as (start, end, value), in the order of time."""
        sessions = [
            (session.start, session.end)
            for session in self._cache.sessions_of([key]).get(key, [])
            if session.end >= earliest_end and session.start <= latest_start
        ]
        if reverse:
            sessions.reverse()
        rows = self._values(session_store_key(key, start, end) for start, end in sessions)
        return ((*split_session_store_key(store_key)[1:], value) for store_key, value, _ in rows)

    def find_sessions_between(
        self,
        first: bytes | None,
        last: bytes | None,
        earliest_end: int = 0,
        latest_start: int = MAX_TIME,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, Any, int]]:
        """The sessions of several keys as (store key, value, end), in the order of their store keys."""
        keys = []
        for store_key, _, end in self._cache.scan():
            key, start, _ = split_session_store_key(store_key)
            inside = (first is None or key >= first) and (last is None or key <= last)
            if inside and end >= earliest_end and start <= latest_start:
                keys.append(store_key)
        return self._values(sorted(keys, reverse=reverse))

    def _values(self, store_keys: Iterable[bytes]) -> Iterator[tuple[bytes, Any, int]]:
        keys = list(store_keys)
        for key, row in zip(keys, self._cache.get_many(keys), strict=True):
            if row is not None:
                yield key, *row


class WrittenSessions:
    """The same where nothing is cached: the store, with what is known of it beside it kept right.

    Args:
        rows: The store.
    """

    def __init__(self, rows: SessionRows) -> None:
        self._rows = rows
        self.fetch_session = rows.sessions.fetch_session
        self.find_sessions = rows.sessions.find_sessions
        self.find_sessions_between = rows.sessions.find_sessions_between

    def put_many(self, keys: list[bytes], values: list[Any], timestamps: list[int]) -> None:
        """Write sessions."""
        for key in keys:
            self._rows.known.pop(split_session_store_key(key)[0], None)
        self._rows.sessions.put_many(keys, values, timestamps)
