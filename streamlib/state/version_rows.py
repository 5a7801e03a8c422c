"""The bytes of a key's replaced versions in one segment of a versioned store.

``next time int64 | first time int64 | (time int64, size int32) for each version, newest first | values, oldest first``

A version is valid from its time to that of the version after it; the newest one in a row to the row's next time. A size
of -1 is a deletion: nothing was valid then. A row whose first and next time are equal says only that the key was
deleted at that time.

Source: Kafka's ``RocksDBVersionedStoreSegmentValueFormatter``. Next: `versioned`, the store of such rows.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

_HEAD = Struct(">qq")
_VERSION = Struct(">qi")
_TIME = Struct(">q")
_DELETED = -1


class Found(NamedTuple):
    """A version in a row.

    Attributes:
        place: 0 is the newest one.
        valid_from: Its time in ms.
        valid_to: When it was replaced or deleted.
        value: Its bytes; None where the key was deleted.
    """

    place: int
    valid_from: int
    valid_to: int
    value: bytes | None


def next_time(row: bytes) -> int:
    """When the newest version of the row was replaced or deleted (ms)."""
    time: int = _TIME.unpack_from(row)[0]
    return time


def first_time(row: bytes) -> int:
    """The time of the oldest version of the row (ms)."""
    time: int = _TIME.unpack_from(row, _TIME.size)[0]
    return time


def new_row(valid_from: int, valid_to: int, value: bytes | None) -> bytes:
    """A row with one version; with equal times and without a value: a deletion at that time."""
    return _HEAD.pack(valid_to, valid_from) + _version(valid_from, value) + (value or b"")


def versions(row: bytes) -> Iterator[Found]:
    """The versions of a row, newest first, deletions included."""
    valid_to, first = _HEAD.unpack_from(row)
    place, end = _HEAD.size, len(row)
    index = 0
    while True:
        time, size = _VERSION.unpack_from(row, place)
        value = None
        if size != _DELETED:
            value = row[end - size : end]
            end -= size
        yield Found(index, time, valid_to, value)
        if time == first:
            return
        valid_to, place, index = time, place + _VERSION.size, index + 1


def find(row: bytes, time: int) -> Found:
    """The version that was valid at a time, which lies in ``[first time, next time)`` of the row."""
    valid_to, first = _HEAD.unpack_from(row)
    if time < first:
        msg = f"no version at {time} in a row that begins at {first}"
        raise ValueError(msg)
    unpack, step = _VERSION.unpack_from, _VERSION.size
    place, end = _HEAD.size, len(row)
    valid_from, size = unpack(row, place)
    while valid_from > time:
        valid_to = valid_from
        if size != _DELETED:
            end -= size
        place += step
        valid_from, size = unpack(row, place)
    value = None if size == _DELETED else row[end - size : end]
    return Found((place - _HEAD.size) // step, valid_from, valid_to, value)


def with_latest(row: bytes, valid_from: int, valid_to: int, value: bytes | None) -> bytes:
    """The row with a version added that is newer than all it has.

    Versions from ``valid_from`` on give way: they are what a crash left of this change when it was written first.
    """
    after = next_time(row)
    if valid_from < after:
        row = _until(row, valid_from)
        after = valid_from
    only_deleted = first_time(row) == after
    if after == valid_from:
        if only_deleted:
            return new_row(valid_from, valid_to, value)
    elif only_deleted:
        row = new_row(after, valid_from, None)
    else:
        row = _inserted(row, 0, 0, after, None)
    return _TIME.pack(valid_to) + _inserted(row, 0, 0, valid_from, value)[_TIME.size :]


def with_earliest(row: bytes, time: int, value: bytes | None) -> bytes:
    """The row with a version added that is older than all it has, and valid until its first time."""
    first = first_time(row)
    if first == next_time(row):
        return new_row(time, first, value)
    *_, last = versions(row)
    values_size = len(row) - _HEAD.size - (last.place + 1) * _VERSION.size
    longer = _inserted(row, last.place + 1, values_size, time, value)
    return longer[: _TIME.size] + _TIME.pack(time) + longer[_HEAD.size :]


def with_inserted(row: bytes, found: Found, time: int, value: bytes | None) -> bytes:
    """The row with a version added right after the one that was found."""
    return _inserted(row, found.place, _newer_size(row, found), time, value)


def with_replaced(row: bytes, found: Found, time: int, value: bytes | None) -> bytes:
    """The row with another version in the place of the one that was found."""
    newer_size = _newer_size(row, found)
    place = _HEAD.size + found.place * _VERSION.size
    end = len(row) - newer_size
    start = end - len(found.value or b"")
    head = row[: _HEAD.size]
    if found.valid_from == first_time(row):
        head = row[: _TIME.size] + _TIME.pack(time)
    return b"".join(
        (
            head,
            row[_HEAD.size : place],
            _version(time, value),
            row[place + _VERSION.size : start],
            value or b"",
            row[end:],
        )
    )


def _version(time: int, value: bytes | None) -> bytes:
    return _VERSION.pack(time, _DELETED if value is None else len(value))


def _inserted(row: bytes, index: int, newer_size: int, time: int, value: bytes | None) -> bytes:
    """The row with one more version; ``newer_size`` bytes of values are newer than it."""
    place = _HEAD.size + index * _VERSION.size
    end = len(row) - newer_size
    return b"".join((row[:place], _version(time, value), row[place:end], value or b"", row[end:]))


def _newer_size(row: bytes, found: Found) -> int:
    """How many bytes the values of the versions take that are newer than the one found."""
    sizes = (_VERSION.unpack_from(row, _HEAD.size + index * _VERSION.size)[1] for index in range(found.place))
    return sum(size for size in sizes if size != _DELETED)


def _until(row: bytes, time: int) -> bytes:
    """What a row says about the time before ``time``."""
    if time <= first_time(row):
        return new_row(time, time, None)
    kept = [found for found in versions(row) if found.valid_from < time]
    entries = b"".join(_version(found.valid_from, found.value) for found in kept)
    values = b"".join(found.value or b"" for found in reversed(kept))
    return _HEAD.pack(time, first_time(row)) + entries + values
