"""Leaves out records whose id has passed not long before, or not long after: event time decides, both ends included.

What has passed is remembered by id and time until stream time is later by twice the time within which duplicates are
looked for, so the answer is exact for records that come out of order by as much as that time. For older ones what is
still known decides, and those older than everything that is known pass without being remembered. Stream time is that of
the records that have passed, as the store has it, so a restart changes nothing.

Under at-least-once a record may come again whose id was remembered before a crash, but whose output was lost. An id is
remembered with the place its record was read from, and the record itself is no duplicate of its own.

Source: KIP-655. Next: `state/join_window`, where ids are kept.
"""

from struct import Struct
from typing import Any, cast

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.selection import picked
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.serdes.base import AnySerde
from streamlib.state.join_window import JoinWindowStore
from streamlib.state.recent_rows import Match
from streamlib.topology.deduplicate_nodes import Deduplicate

_PLACE = Struct(">qi")
_NO_ID: Any = object()


class DeduplicateOperator:
    """Passes the first record of each id.

    Args:
        node: What to do.
        store: What has passed.
        id_serde: Of the ids.
        context: Errors, counters, and where records come from.
        forward: Where records go.
    """

    def __init__(
        self,
        node: Deduplicate,
        store: JoinWindowStore[bytes],
        id_serde: AnySerde,
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._store = store
        self._id_serde = id_serde
        self._context = context
        self._forward = forward
        self._places = Places()

    def init(self) -> None:
        """Take what has passed into memory."""
        self._store.read_ahead()
        self._places = Places()

    def process(self, batch: RecordBatch) -> None:
        """Pass records whose id is new; others, and those without an id, are counted."""
        if self._node.selector is not None:
            ids = self._ids(batch)
            if any(each is _NO_ID for each in ids):  # the function raised on them
                kept = [row for row, each in enumerate(ids) if each is not _NO_ID]
                batch, ids = picked(batch, kept), [ids[row] for row in kept]
        else:
            ids = batch.keys
        raws: list[bytes | None] = self._id_serde.serialize_many(ids)
        rows = self._first_rows(batch, raws)
        no_id = sum(raw is None for raw in raws)
        duplicates = len(raws) - no_id - len(rows)
        if no_id:
            self._context.metrics.dropped(self._node.name, "null-key", no_id)
        if duplicates:
            self._context.metrics.dropped(self._node.name, "duplicate", duplicates)
        if rows:
            self._forward(batch if len(rows) == len(batch) else picked(batch, rows))

    def _first_rows(self, batch: RecordBatch, raws: list[bytes | None]) -> list[int]:
        """The rows that pass, which are remembered."""
        store, within_ms = self._store, self._node.within_ms
        tp = self._context.tp
        places = self._places.of("" if tp is None else tp.topic, batch)
        matches = store.matches(raws, batch.timestamps, within_ms, within_ms)
        highest, known_ms = store.highest_timestamp, known_for(within_ms)
        recent: dict[bytes, list[Match]] = {}
        passed, new = [], []
        for row, (raw, time, found, place) in enumerate(zip(raws, batch.timestamps, matches, places, strict=True)):
            if raw is None:
                continue
            live_from = max(time - within_ms, highest - known_ms + 1)
            if found or raw in recent:
                same = [each for each in (*found, *recent.get(raw, ())) if live_from <= each[0] <= time + within_ms]
                if same:
                    if place and (time, place) in same:  # it comes again
                        passed.append(row)
                    continue
            passed.append(row)
            if time > highest - known_ms:
                highest = max(highest, time)
                recent.setdefault(raw, []).append((time, place))
                new.append(row)
        if new:
            keys = [cast("bytes", raws[row]) for row in new]
            store.put_many(keys, [places[row] for row in new], [batch.timestamps[row] for row in new])
        return passed

    def _ids(self, batch: RecordBatch) -> list[Any]:
        selector = self._node.selector
        assert selector is not None
        ids = []
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            try:
                ids.append(selector(key, value))
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._context.errors.failed(error, self._node.name, key, value, batch.timestamps[row], offset)
                ids.append(_NO_ID)
        return ids


class Places:
    """Where records come from, as bytes: offset, number among the records that one input record has led to, topic."""

    def __init__(self) -> None:
        self._topic = ""
        self._offset: int | None = None
        self._number = 0

    def of(self, topic: str, batch: RecordBatch) -> list[bytes]:
        """The place of each row; empty where it is not known."""
        if batch.offsets is None or not topic:
            return [b""] * len(batch)
        if topic != self._topic:
            self._topic, self._offset = topic, None
        name, pack, places = topic.encode(), _PLACE.pack, []
        last, number = self._offset, self._number
        for offset in batch.offsets:
            number = number + 1 if offset == last else 0
            last = offset
            places.append(pack(offset, number) + name)
        self._offset, self._number = last, number
        return places


def known_for(within_ms: int) -> int:
    """How long an id must be remembered."""
    return 2 * within_ms + 1


def deduplicate(node: Deduplicate, wiring: Wiring) -> DeduplicateOperator:
    """The operator that leaves out duplicates."""
    store = cast("JoinWindowStore[bytes]", wiring.stores[node.store])
    id_serde = wiring.topology.stores[node.store].key_serde
    return DeduplicateOperator(node, store, id_serde, wiring.context, wiring.forward)
