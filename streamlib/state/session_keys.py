"""The store keys of sessions: ``key | end int64 | start int64``, both ends inclusive. Next: `session`."""

from collections.abc import Sequence
from struct import Struct
from typing import Protocol

SUFFIX_BYTES = 16

_END_START = Struct(">qq")
_TIME_BYTES = 8
_pack, _unpack = _END_START.pack, _END_START.unpack_from


class Bounded(Protocol):
    """A session of a serialized plain key."""

    key: bytes
    start: int
    end: int


def session_store_key(key: bytes, start: int, end: int) -> bytes:
    """The store key of a session: what engine and changelog use. Source: Kafka's ``SessionKeySchema``."""
    return key + _pack(end, start)


def session_store_keys(sessions: Sequence[Bounded]) -> list[bytes]:
    """The store keys of sessions."""
    return [session.key + _pack(session.end, session.start) for session in sessions]


def split_session_store_key(store_key: bytes) -> tuple[bytes, int, int]:
    """The plain key, the start and the end (ms) of a store key."""
    end, start = _unpack(store_key, len(store_key) - SUFFIX_BYTES)
    return store_key[:-SUFFIX_BYTES], start, end


def session_ends(store_keys: list[bytes]) -> list[int]:
    """The ends (ms) of the sessions of store keys."""
    return [int.from_bytes(key[-SUFFIX_BYTES:-_TIME_BYTES]) for key in store_keys]


def session_end(store_key: bytes) -> int:
    """The end (ms) of a store key's session."""
    return int.from_bytes(store_key[-SUFFIX_BYTES:-_TIME_BYTES])
