"""The write cache of session stores: at a commit one store write and one update downstream for each changed session.

Sessions are kept by plain key, so that finding those near a record takes no look-up in the store. An object of a
session is changed in place, and where a session that the store has never had grows, the object is reused.
Next: `operators/session_aggregate`, whose loop changes sessions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import accumulate, compress
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import msgspec

from streamlib.record import ChangeBatch, Headers, TopicPartition, Windowed
from streamlib.serdes.base import Serde, any_none
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.session import SessionStore
from streamlib.state.session_keys import session_store_key, session_store_keys, split_session_store_key

V = TypeVar("V")

UNREAD: Final[Any] = object()
"""Stands for a value of which only the row is at hand."""

_ENTRY_OVERHEAD_BYTES = 450  # an object of 10 attributes, its numbers, and its places in lists and dicts
_SAMPLED_SESSIONS = 32
_ASSUMED_SESSION_BYTES = 700


class Session(msgspec.Struct, eq=False, gc=False):
    """A session of one key; never part of a cycle, so the garbage collector need not know of it.

    Attributes:
        key: The serialized plain key.
        start: First millisecond.
        end: Last millisecond.
        value: The aggregate; None when the session is removed, `UNREAD` when it is only known as ``row``.
        row: The serialized value, as far as ``value`` was not changed since.
        name: The plain key as an object, of the last update.
        timestamp: Of the record that updated it last.
        headers: Likewise.
        offset: Likewise, where that is known.
        tp: Likewise.
        turn: Number of the last update; 0 for a session that came from the store.
        stored: Whether the store may have it.
    """

    key: bytes
    start: int
    end: int
    value: Any
    row: bytes | None = None
    name: Any = None
    timestamp: int = 0
    headers: Headers | None = None
    offset: int | None = None
    tp: TopicPartition | None = None
    turn: int = 0
    stored: bool = False

    @property
    def there(self) -> bool:
        """Whether it was not removed."""
        return self.value is not None


_turn_of = attrgetter("turn")
_bounds_of = attrgetter("end", "start")


def load(known: dict[bytes, list[Session]], store: SessionStore[Any], keys: Iterable[bytes]) -> int:
    """Add the sessions of plain keys that are not known yet, as far as they can be read in the store.

    Those of each key are in the order of time. Keys that surely have none are left out. Returns how much came, as
    `_count` has it.
    """
    found = store.find_rows(keys, known)
    for key, rows in found.items():
        known[key] = [Session(key, start, end, UNREAD, row, stored=True) for start, end, row in rows]
    return _count(found)


def _count(sessions: Mapping[bytes, Sized]) -> int:
    """How many sessions there are; a key without any counts as one."""
    return sum(len(each) or 1 for each in sessions.values())


def insert(sessions: list[Session], session: Session) -> None:
    """Put a session in its place."""
    place, bounds = len(sessions), (session.end, session.start)
    while place and _bounds_of(sessions[place - 1]) > bounds:
        place -= 1
    sessions.insert(place, session)


def drop(sessions: list[Session], session: Session) -> None:
    """Take out a session, if it is there; recent ones, which are asked for most, are found first."""
    for place in range(len(sessions) - 1, -1, -1):
        if sessions[place] is session:
            del sessions[place]
            return


def session_at(sessions: list[Session], start: int, end: int) -> Session | None:
    """The session with exactly these bounds."""
    for session in reversed(sessions):
        if session.end < end:
            return None
        if session.end == end and session.start == start:
            return session
    return None


class SessionCache(Generic[V]):
    """Sessions updated since the last flush, over what the store has.

    What was flushed stays here, as in Java's cache, and can still be found when the store does not give it any more,
    because it is past the retention. Only when memory runs out is it forgotten.

    Args:
        store: What lies below.
        serde: The store's value serde; tells whether values are immutable.
        memory: A share of it is this cache's: when the dirty sessions are estimated to take more, `is_full`.
        send_old: Whether `flush` gives the values before the update.

    Attributes:
        dirty: Sessions updated since the last flush, each once.
        flushed: The sessions of the changes that the last flush gave.

    Source: Kafka's ``CachingSessionStore``, ``NamedCache``.
    """

    def __init__(self, store: SessionStore[V], serde: Serde[V], *, memory: CacheMemory, send_old: bool = False) -> None:
        self.dirty: list[Session] = []
        self.flushed: Sequence[Session] = []
        self._share = memory.share(_ASSUMED_SESSION_BYTES)
        self._store = store
        self._immutable = serde.immutable
        self._send_old = send_old
        self._sessions: dict[bytes, list[Session]] = {}
        self._turn = 0
        self._flushed_turn = 0
        self._added = 0  # sessions taken into the cache since it was trimmed, at least as many as are there

    @property
    def max_entries(self) -> int:
        """How many dirty sessions fit, and how many clean ones beside them; their size is estimated at each flush."""
        return self._share.max_entries

    def sessions_of(self, keys: Sequence[bytes]) -> dict[bytes, list[Session]]:
        """The sessions of (at least) these plain keys in the order of time, removed ones included; see `is_there`.

        Keys without any may be missing.
        """
        if self._added > self.max_entries + len(self.dirty):
            self._share.trimmed = True
            self._trim()
        self._added += load(self._sessions, self._store, keys)
        return self._sessions

    def is_there(self, session: Session) -> bool:
        """Whether a session can be found: those that came from the store only as long as the store has them."""
        store = self._store
        return session.there and (session.turn > 0 or session.end > store.observed_stream_time - store.retention_ms)

    def value_of(self, session: Session) -> V:
        """The aggregate, for the caller to change; a dirty one changes with it."""
        value = session.value
        if value is UNREAD:
            assert session.row is not None
            value = self._store.decode(session.key, session.row)
            if self._immutable:
                session.value = value
        result: V = value
        return result

    def begin(self, session: Session) -> None:
        """Put a session that lies behind all others of its key, with the name, timestamp and headers of its record."""
        sessions = self._sessions.get(session.key)
        if sessions:
            sessions.append(session)
        else:
            self._sessions[session.key] = [session]
        self._added += 1
        self._turn += 1
        session.turn = self._turn
        self.dirty.append(session)

    def replace(self, gone: Sequence[Session], session: Session) -> None:
        """Remove sessions, and put one of the same key that takes their place.

        Args:
            gone: Sessions that `sessions_of` gave.
            session: The new one, with the name, timestamp and headers of the record that makes it.
        """
        sessions = self._sessions.setdefault(session.key, [])
        target = session_at(sessions, session.start, session.end)
        for each in gone:
            if each is target:
                continue
            if each.stored:
                self._touch(each, None, session)
                continue
            drop(sessions, each)
            if target is None:
                target = each  # nobody has heard of it: it becomes the new session
                target.start, target.end = session.start, session.end
                insert(sessions, target)
            else:
                each.value = None
        if target is None:
            target = Session(session.key, session.start, session.end, None)
            insert(sessions, target)
            self._added += 1
        self._touch(target, session.value, session)

    def remove(self, gone: Sequence[Session], cause: Session) -> None:
        """Remove sessions; ``cause`` has the name, timestamp and headers of the record that does it."""
        for session in gone:
            self._touch(session, None, cause)

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Values and ends of sessions, in the order of their store keys; the values are the caller's own."""
        found: list[tuple[V, int] | None] = []
        for store_key, stored in zip(keys, self._store.get_many(keys), strict=True):
            session = self._find(store_key)
            if session is None or session.turn == 0:
                found.append(stored)
            elif not session.there:
                found.append(None)
            else:
                value: Any = self.value_of(session)
                if not self._immutable and session.value is not UNREAD:
                    (row,) = self._store.encode_many([store_key], [value])
                    assert row is not None
                    value = self._store.decode(store_key, row)
                found.append((value, session.end))
        return found

    def scan(self) -> Iterator[tuple[bytes, V, int]]:
        """All sessions that can be found as (store key, value, end), in no order; values are not the caller's own."""
        cached = {
            session_store_key(session.key, session.start, session.end): session
            for sessions in self._sessions.values()
            for session in sessions
            if session.turn > 0
        }
        yield from (row for row in self._store.scan() if row[0] not in cached)
        for key, session in cached.items():
            if session.there:
                yield key, self.value_of(session), session.end

    def is_full(self) -> bool:
        """Whether the dirty sessions are estimated to take more than the share: then flush. Ask once per batch."""
        return len(self.dirty) > self.max_entries

    def flush(self, limit: int | None = None) -> ChangeBatch | None:
        """Write dirty sessions to the store and its changelog; the changes to forward, None when there are none.

        Changes come in the order of the last update of their sessions, under `Windowed` keys and at the ends of the
        sessions. A removal of a session that cannot be read in the store is neither written nor forwarded. The old
        values are those the store had.

        Args:
            limit: Flush the first so many sessions only; None for all.
        """
        self._share.ask(len(self.dirty), self._added - len(self.dirty))
        self._share.trimmed = False
        part: Sequence[Session] = self._take(limit)
        keys = session_store_keys(part)
        olds: list[Any] | None = None
        if self._send_old or any_none([session.value for session in part]):
            keys, part, olds = self._with_olds(keys, part)
        return self._write(keys, part, olds) if part else None

    def discard(self) -> None:
        """Forget everything: for when the work since the last commit is dropped, together with the store's own."""
        self.dirty = []
        self._sessions = {}
        self._added = 0

    def _with_olds(
        self, keys: list[bytes], part: Sequence[Session]
    ) -> tuple[list[bytes], Sequence[Session], list[V | None]]:
        """What is to be written, and the values the store has; removals of what cannot be read there are left out."""
        removed = [row for row, session in enumerate(part) if session.value is None]
        asked = list(range(len(part))) if self._send_old else [row for row in removed if part[row].stored]
        olds: list[V | None] = [None] * len(part)
        retention_ms = self._store.retention_ms
        # Each update is a write of its own, after which older sessions may be past the retention. A removal that is
        # written is of a session that the store has seen, one that is left out moves no time.
        ends = [-1 if session.value is None else session.end for session in part]
        observed = list(accumulate(ends, max, initial=self._store.observed_stream_time))
        for row, found in zip(asked, self._store.get_many([keys[row] for row in asked]), strict=True):
            if found is not None and part[row].end > observed[row] - retention_ms:
                olds[row] = found[0]
        keep = [True] * len(part)
        for row in removed:
            drop(self._sessions[part[row].key], part[row])
            keep[row] = olds[row] is not None and part[row].stored
        return list(compress(keys, keep)), list(compress(part, keep)), list(compress(olds, keep))

    def _write(self, keys: list[bytes], part: Sequence[Session], olds: list[V | None] | None) -> ChangeBatch:
        values, ends = [session.value for session in part], [session.end for session in part]
        rows = self._store.encode_many(keys, values)
        plain, timestamps = [session.key for session in part], [session.timestamp for session in part]
        self._store.put_rows(keys, rows, timestamps, plain, ends)
        for session in part:
            session.stored = True
        if not self._immutable:
            for session, row in zip(part, rows, strict=True):
                if row is not None:
                    session.value, session.row = UNREAD, row  # the object goes down the plan
        self._measure(keys, rows)
        self.flushed = part
        headers = [session.headers for session in part]
        changes = ChangeBatch(
            [Windowed(session.name, session.start, session.end) for session in part],
            values,
            ends,
            headers=[each or () for each in headers] if any(headers) else None,
            olds=olds if self._send_old else None,
        )
        changes.store_keys = keys
        return changes

    def _touch(self, session: Session, value: V | None, cause: Session) -> None:
        """Update a session, or remove it (None); nothing below hears of it before the next flush."""
        if session.turn <= self._flushed_turn:
            self.dirty.append(session)
        self._turn += 1
        session.value, session.row, session.turn = value, None, self._turn
        session.name, session.timestamp, session.headers = cause.name, cause.timestamp, cause.headers
        session.offset, session.tp = cause.offset, cause.tp

    def _find(self, store_key: bytes) -> Session | None:
        key, start, end = split_session_store_key(store_key)
        return session_at(self._sessions.get(key, []), start, end)

    def _take(self, limit: int | None) -> list[Session]:
        """The sessions to flush, clean from now on."""
        self.dirty.sort(key=_turn_of)
        part = self.dirty if limit is None else self.dirty[:limit]
        self.dirty = [] if limit is None else self.dirty[limit:]
        if part:
            self._flushed_turn = part[-1].turn
        return part

    def _trim(self) -> None:
        """Forget the sessions of keys of which none is dirty: those past the retention, and if need be the others."""
        dirty = {session.key: self._sessions[session.key] for session in self.dirty}
        readable_from = self._store.observed_stream_time - self._store.retention_ms + 1
        readable = {
            key: [session for session in sessions if session.end >= readable_from]
            for key, sessions in self._sessions.items()
            if sessions and sessions[-1].end >= readable_from
        }
        readable.update(dirty)
        fit = self.max_entries * 3 // 4 + len(self.dirty)
        self._sessions = readable if _count(readable) <= fit else dirty
        self._added = _count(self._sessions)

    def _measure(self, keys: list[bytes], rows: list[bytes | None]) -> None:
        """Estimate the size of a session from a few of them."""
        sample = list(zip(keys, rows, strict=True))[:_SAMPLED_SESSIONS]
        size_bytes = sum(_ENTRY_OVERHEAD_BYTES + len(key) + len(row or b"") for key, row in sample)
        self._share.entry_bytes = size_bytes // len(sample)
