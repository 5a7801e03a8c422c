"""Session stores as user code sees them: a value for each key and session. Times are in ms, bounds inclusive.

What was said of `key_value_facade` holds here. A session is written as `Windowed(key, start, end)`, ``end`` being the
time of its last record. Source: SessionStore, ReadOnlySessionStore. Next: `versioned_facade`.
"""

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from streamlib.record import Windowed
from streamlib.state.facade import Facade, Stamp
from streamlib.state.session_keys import session_store_key, split_session_store_key
from streamlib.state.spec import StoreSpec

K = TypeVar("K")
V = TypeVar("V")

MAX_TIME = 0x7FFFFFFF_FFFFFFFF


class SessionRows(Protocol):
    """What lies below: rows by session store key, as `state.session.SessionStore` has them."""

    def fetch_session(self, key: bytes, start: int, end: int) -> Any:
        """The value of the session with exactly these bounds."""

    def put_many(self, keys: list[bytes], values: list[Any], timestamps: list[int]) -> None:
        """Write sessions and log them, in order; None removes one."""

    def find_sessions(
        self, key: bytes, earliest_end: int = 0, latest_start: int = MAX_TIME, *, reverse: bool = False
    ) -> Iterator[tuple[int, int, Any]]:
        """The sessions of a plain key as (start, end, value), in the order of time."""

    def find_sessions_between(
        self,
        first: bytes | None,
        last: bytes | None,
        earliest_end: int = 0,
        latest_start: int = MAX_TIME,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, Any, int]]:
        """The sessions of several keys as (store key, value, end)."""


class ReadOnlySessionStore(Facade[K, SessionRows], Generic[K, V]):
    """A value for each key and session; made by the runtime."""

    def fetch_session(self, key: K, start: int, end: int) -> V | None:
        """The value of the session with exactly these bounds; None when there is none."""
        found: V | None = self._rows.fetch_session(self._raw(key), start, end)
        return found

    def fetch(self, key: K) -> Iterator[tuple[Windowed[K], V]]:
        """All sessions of a key and their values, oldest first."""
        return self.find_sessions(key, 0, MAX_TIME)

    def backward_fetch(self, key: K) -> Iterator[tuple[Windowed[K], V]]:
        """The same, latest first."""
        return self.backward_find_sessions(key, 0, MAX_TIME)

    def fetch_keys(self, first: K | None = None, last: K | None = None) -> Iterator[tuple[Windowed[K], V]]:
        """All sessions of the keys from ``first`` to ``last`` (None: no bound)."""
        return self.find_sessions_of_keys(first, last, 0, MAX_TIME)

    def find_sessions(self, key: K, earliest_end: int, latest_start: int) -> Iterator[tuple[Windowed[K], V]]:
        """The sessions of a key that end at ``earliest_end`` or later and start at ``latest_start`` or earlier."""
        return self._of_key(key, earliest_end, latest_start, reverse=False)

    def backward_find_sessions(self, key: K, earliest_end: int, latest_start: int) -> Iterator[tuple[Windowed[K], V]]:
        """The same, latest first."""
        return self._of_key(key, earliest_end, latest_start, reverse=True)

    def find_sessions_of_keys(
        self, first: K | None, last: K | None, earliest_end: int, latest_start: int
    ) -> Iterator[tuple[Windowed[K], V]]:
        """The same of the keys from ``first`` to ``last`` (None: no bound)."""
        deserialize = self._spec.key_serde.deserialize
        rows = self._rows.find_sessions_between(
            None if first is None else self._raw(first),
            None if last is None else self._raw(last),
            earliest_end,
            latest_start,
        )
        for store_key, value, _ in rows:
            raw, start, end = split_session_store_key(store_key)
            yield Windowed(deserialize(raw), start, end), value

    def _of_key(
        self, key: K, earliest_end: int, latest_start: int, *, reverse: bool
    ) -> Iterator[tuple[Windowed[K], V]]:
        rows = self._rows.find_sessions(self._raw(key), earliest_end, latest_start, reverse=reverse)
        return ((Windowed(key, start, end), value) for start, end, value in rows)


class SessionStore(ReadOnlySessionStore[K, V]):
    """A value for each key and session, to read and to write; made by the runtime."""

    def __init__(self, spec: StoreSpec, rows: SessionRows, stamp: Stamp) -> None:
        super().__init__(spec, rows)
        self._stamp = stamp

    def put(self, session: Windowed[K], value: V | None) -> None:
        """Set the value of a session; None removes it. A session past the retention is left out and counted.

        Raises:
            SerdeError: The key is None, or a serde refuses key or value; nothing was written.
        """
        store_key = session_store_key(self._raw(session.key), session.start, session.end)
        self._rows.put_many([store_key], [value], [self._stamp.timestamp])

    def remove(self, session: Windowed[K]) -> None:
        """Remove a session."""
        self.put(session, None)
