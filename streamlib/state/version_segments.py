"""The segments of a versioned store: the versions that were replaced or deleted, for as long as history is kept.

A version lies in the segment of the time at which it ended, in one row with the key's others there (`version_rows`). A
segment is the engine table ``<store>/<interval>/<segment id>``, dropped whole once it is older than the history. Next:
`versioned`, which adds the latest versions.
"""

from collections.abc import Iterator
from itertools import islice

from streamlib.state import version_rows
from streamlib.state.base import Engine
from streamlib.state.rows import MISSING, Rows
from streamlib.state.table import RowCache, StateTable

IS_LATEST = -1
"""What a put gives for a version that nothing has replaced."""

_NO_TIME = -1
_MOVED_ROWS = 10_000

_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS


def segment_interval(history_ms: int) -> int:
    """Length (ms) of the segments of a store. Source: Kafka's ``RocksDbVersionedKeyValueBytesStoreSupplier``."""
    if history_ms <= _MINUTE_MS:
        return max(history_ms // 3, 2 * _SECOND_MS)
    if history_ms <= 5 * _MINUTE_MS:
        return max(history_ms // 5, 20 * _SECOND_MS)
    if history_ms <= _HOUR_MS:
        return max(history_ms // 12, _MINUTE_MS)
    return max(history_ms // 24, 5 * _MINUTE_MS)


class VersionSegments:
    """The live segments of one store, with their overlays.

    Args:
        engine: Where committed rows live.
        store: The store's name.
        history_ms: How long a version is kept after it has ended.

    Attributes:
        observed: The stream time that decides what is live (ms), -1 at first.

    Source: the segments of Kafka's ``RocksDBVersionedStore``, ``LogicalKeyValueSegments``.
    """

    def __init__(self, engine: Engine, store: str, history_ms: int) -> None:
        self.observed = _NO_TIME
        self._engine = engine
        self._history_ms = history_ms
        self._interval = segment_interval(history_ms)
        self._folder = f"{store}/"
        self._prefix = f"{store}/{self._interval}/"
        self._segments: dict[int, StateTable] = {}  # newest first
        self._doomed: list[StateTable] = []  # expired since the last commit
        self._dropping: list[StateTable] = []  # expired by the commit that is being applied
        self._move_segments_of_other_intervals()
        own = [table for table in engine.tables() if table.startswith(self._prefix)]
        for segment_id in sorted((int(table.removeprefix(self._prefix)) for table in own), reverse=True):
            self._segments[segment_id] = self._segment(segment_id, exists=True)

    def advance(self, observed: int) -> None:
        """Move the stream time: whole segments expire."""
        self.observed = observed
        oldest_live = (observed - self._history_ms) // self._interval
        for segment_id in [segment_id for segment_id in self._segments if segment_id < oldest_live]:
            self._doomed.append(self._segments.pop(segment_id))

    def put_ended(self, key: bytes, value: bytes | None, valid_from: int, valid_to: int) -> None:
        """Put a version that ends later than all others of its key have ended; nothing if that is past the history."""
        segment = self._live(valid_to)
        if segment is None:
            return
        row = _row(segment, key)
        if row is None:
            segment.rows[key] = version_rows.new_row(valid_from, valid_to, value)
        else:
            segment.rows[key] = version_rows.with_latest(row, valid_from, valid_to, value)

    def put_before(self, key: bytes, value: bytes | None, time: int, valid_to: int) -> int:
        """Put a version that others may follow.

        Args:
            key: Its key.
            value: Its value; None deletes.
            time: From when it is valid (ms); not before the history.
            valid_to: The time of the latest version, or `IS_LATEST` when there is none.

        Returns:
            When it ends. `IS_LATEST` if never: then a deletion was put here, but a value belongs to the latest ones.
        """
        oldest = time // self._interval
        for segment_id, segment in self._segments.items():
            row = _row(segment, key) if segment_id >= oldest else None
            if row is None:
                continue
            if version_rows.next_time(row) <= time:
                break
            first = version_rows.first_time(row)
            if first <= time:
                found = version_rows.find(row, time)
                change = version_rows.with_replaced
                if found.valid_from != time and segment_id == oldest:
                    change = version_rows.with_inserted
                elif found.valid_from != time:
                    # What was valid until now ends in an older segment: it goes there.
                    self.put_ended(key, found.value, found.valid_from, time)
                segment.rows[key] = change(row, found, time, value)
                return found.valid_to
            valid_to = first
        if valid_to != IS_LATEST:
            self._put_beside(key, value, time, valid_to)
        elif value is None:
            self._put_deletion(key, time)
        return valid_to

    def as_of(self, keys: list[bytes], times: list[int], positions: list[int]) -> dict[int, version_rows.Found]:
        """The versions that were valid at ``times``, by position; positions without one are left out.

        Args:
            keys: Keys.
            times: A time (ms) for each.
            positions: Which of them to look up.
        """
        result: dict[int, version_rows.Found] = {}
        wanted = set(positions)
        for segment_id, segment in self._segments.items():
            if not wanted:
                break
            here = [position for position in wanted if segment_id >= times[position] // self._interval]
            for position, row in zip(here, segment.get_many([keys[position] for position in here]), strict=True):
                if row is None or version_rows.first_time(row) > times[position]:
                    continue  # an older segment may tell
                wanted.remove(position)
                if times[position] < version_rows.next_time(row):
                    result[position] = version_rows.find(row, times[position])
        return result

    def versions(self, key: bytes) -> Iterator[version_rows.Found]:
        """All versions of a key, newest first, deletions included."""
        for segment in list(self._segments.values()):
            row = _row(segment, key)
            if row is not None:
                yield from version_rows.versions(row)

    def stored_keys(self) -> set[bytes]:
        """All keys that have a row; costs a scan of every segment."""
        return {key for segment in self._segments.values() for key, _ in segment.scan(None, None)}

    def pending(self) -> dict[str, Rows]:
        """The rows for the atomic batch of this commit, those of older segments first."""
        self._dropping += (segment for segment in self._doomed if segment.exists)
        self._doomed = []
        segments = list(reversed(self._segments.values()))
        return {segment.name: rows for segment in segments if (rows := segment.pending())}

    def applied(self) -> None:
        """The rows of `pending` are in the engine: expired segments are dropped there."""
        for segment in (*self._segments.values(), *self._doomed):
            segment.applied()
        for segment in self._dropping:
            self._engine.drop(segment.name)
        self._dropping = []

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return sum(segment.pending_rows for segment in self._segments.values())

    def _segment(self, segment_id: int, *, exists: bool) -> StateTable:
        return StateTable(self._engine, f"{self._prefix}{segment_id}", RowCache(0), exists=exists)

    def _live(self, time: int) -> StateTable | None:
        """The segment of a time, made if need be; None when it has expired."""
        segment_id = time // self._interval
        segment = self._segments.get(segment_id)
        if segment is None and segment_id >= (self.observed - self._history_ms) // self._interval:
            segment = self._add(segment_id, exists=False)
        return segment

    def _add(self, segment_id: int, *, exists: bool) -> StateTable:
        segment = self._segments[segment_id] = self._segment(segment_id, exists=exists)
        self._segments = dict(sorted(self._segments.items(), reverse=True))
        return segment

    def _put_beside(self, key: bytes, value: bytes | None, time: int, valid_to: int) -> None:
        """Put a version that ends when the oldest one after it begins, in the segment of that time."""
        segment = self._live(valid_to)
        row = None if segment is None else _row(segment, key)
        if segment is not None and row is not None and version_rows.next_time(row) > time:
            segment.rows[key] = version_rows.with_earliest(row, time, value)
        else:
            self.put_ended(key, value, time, valid_to)

    def _put_deletion(self, key: bytes, time: int) -> None:
        """Note the latest deletion of a key that has no latest version."""
        segment = self._live(time)
        row = None if segment is None else _row(segment, key)
        ended = time if row is None else version_rows.next_time(row)
        if row is None or ended != time:
            self.put_ended(key, None, ended, time)

    def _move_segments_of_other_intervals(self) -> None:
        """Rows written under another history go where they belong now; safe to be killed in the middle."""
        tables = [table.rpartition("/") for table in self._engine.tables() if table.startswith(self._folder)]
        foreign = [(int(last), f"{folder}/{last}") for folder, _, last in tables if last.isdecimal()]
        for _, table in sorted(foreign):
            if table.startswith(self._prefix):
                continue
            rows = self._engine.scan(table, None, None)
            while part := list(islice(rows, _MOVED_ROWS)):
                self._write_moved(part)
            self._engine.drop(table)
        self._segments = {}

    def _write_moved(self, part: list[tuple[bytes, bytes]]) -> None:
        existing = set(self._engine.tables())
        for key, row in part:
            for found in reversed(list(version_rows.versions(row))):
                segment_id = found.valid_to // self._interval
                if segment_id not in self._segments:
                    self._add(segment_id, exists=f"{self._prefix}{segment_id}" in existing)
                self.put_ended(key, found.value, found.valid_from, found.valid_to)
        self._engine.write(self.pending(), {})
        self.applied()


def _row(table: StateTable, key: bytes) -> bytes | None:
    row: bytes | None = table.rows.get(key, MISSING)
    if row is MISSING:
        (row,) = table.get_many([key])
    return row
