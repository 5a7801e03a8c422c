"""Session updates without a write cache: gathered for a batch, then written and passed on in order.

Has the same methods as `state.session_cache.SessionCache` for the loop of `session_aggregate`, which is next.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from streamlib.operators.session_rows import SessionRows
from streamlib.operators.table_rows import isolated
from streamlib.record import ChangeBatch, Windowed
from streamlib.state.session_cache import UNREAD, Session, drop, insert, load, session_at
from streamlib.state.session_keys import session_store_key

KNOWN_KEYS_MAX = 20_000
KEPT_SESSIONS_MAX = 8
"""A key with more sessions than this is rid of those that have expired."""


class SessionUpdates:
    """The updates of one batch.

    Args:
        rows: Where sessions are read and written.
        send_old: Whether updates carry the value before them.
        one_by_one: Somebody reads the store when an update comes: it must not have later updates of the same session.
    """

    def __init__(self, rows: SessionRows, *, send_old: bool, one_by_one: bool) -> None:
        self._one_by_one = one_by_one
        self._store = rows.sessions
        self._send_old = send_old
        serde = rows.spec.value_serde
        # A function may change an aggregate in place, while the update that carries it still waits here.
        self._isolate = None if serde.immutable else isolated(serde)
        self._sessions = rows.known
        self._observed = -1
        self._updates: list[Session] = []
        self._olds: list[Any] = []

    def sessions_of(self, keys: Sequence[bytes]) -> dict[bytes, list[Session]]:
        """The sessions of these plain keys in the order of time, some of them maybe past the retention.

        Keys without any may be missing.
        """
        self._observed = self._store.observed_stream_time
        if len(self._sessions) > KNOWN_KEYS_MAX:
            self._sessions.clear()
        known, live_from = self._sessions, self._observed - self._store.retention_ms + 1
        for key in keys:
            sessions = known.get(key)
            if sessions and len(sessions) > KEPT_SESSIONS_MAX and sessions[0].end < live_from:
                known[key] = [session for session in sessions if session.end >= live_from]
        load(known, self._store, keys)
        return known

    def is_there(self, session: Session) -> bool:
        """Whether the store would give a session, had it the updates so far."""
        return session.end > self._observed - self._store.retention_ms

    def value_of(self, session: Session) -> Any:
        """The aggregate, for the caller to change."""
        if session.value is UNREAD:
            assert session.row is not None
            return self._store.decode(session.key, session.row)
        return session.value if self._isolate is None else self._isolate(session.value)

    def begin(self, session: Session) -> None:
        """Put a session that lies behind all others of its key."""
        self._sessions.setdefault(session.key, []).append(session)
        self._add(session)

    def replace(self, gone: Sequence[Session], session: Session) -> None:
        """Remove sessions, and put one of the same key that takes their place."""
        self.remove(gone, session)
        sessions = self._sessions.setdefault(session.key, [])
        before = session_at(sessions, session.start, session.end)
        if before is not None:
            drop(sessions, before)
        if session.value is not None:
            insert(sessions, session)
        self._add(session)

    def remove(self, gone: Sequence[Session], cause: Session) -> None:
        """Remove sessions; ``cause`` has the name, timestamp and offset of the record that does it."""
        for session in gone:
            drop(self._sessions[session.key], session)
            update = Session(session.key, session.start, session.end, None)
            update.name, update.timestamp, update.offset = cause.name, cause.timestamp, cause.offset
            self._updates.append(update)
            old = session.value
            if self._send_old and old is UNREAD:
                old = self.value_of(session)
            self._olds.append(old)

    def write(self) -> Iterator[ChangeBatch]:
        """Write the updates to the store and its changelog; gives them, without headers, each part once it is written.

        The parts are to be passed on as they come.
        """
        updates, olds = self._updates, self._olds
        self._updates, self._olds = [], []
        keys = [session_store_key(each.key, each.start, each.end) for each in updates]
        begin, seen = 0, set[bytes]()
        for place, key in enumerate(keys if self._one_by_one else ()):
            if key in seen:
                yield self._written(keys[begin:place], updates[begin:place], olds[begin:place])
                begin = place
                seen.clear()
            seen.add(key)
        if updates:
            yield self._written(keys[begin:], updates[begin:], olds[begin:])

    def _add(self, session: Session) -> None:
        self._observed = max(self._observed, session.end)
        self._updates.append(session)
        self._olds.append(None)  # also where a session of one point is replaced by itself, as in Java

    def _written(self, keys: list[bytes], updates: list[Session], olds: list[Any]) -> ChangeBatch:
        values = [each.value for each in updates]
        self._store.put_many(keys, values, [each.timestamp for each in updates])
        offsets = [each.offset for each in updates if each.offset is not None]
        changes = ChangeBatch(
            [Windowed(each.name, each.start, each.end) for each in updates],
            values,
            [each.end for each in updates],
            offsets if len(offsets) == len(updates) else None,
            olds=olds if self._send_old else None,
        )
        changes.store_keys = keys
        return changes
