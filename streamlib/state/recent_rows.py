"""The newest rows of one side of a stream-stream join, in memory: by span of time, then by key.

Spans are half a join window, so that a probe looks into few of them, and few rows go at once when memory is
short. Then the oldest rows go that no probe of this moment can want; then values, which the store can still get by
their keys; then the oldest spans. Of the time after those the rows here are complete, and no range is scanned in the
engine. Next: `unmatched`.
"""

from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import compress
from typing import cast

from streamlib.serdes.base import any_none
from streamlib.state.probes import Probes
from streamlib.state.segments import MAX_TIME
from streamlib.state.spans import MIN_SPAN_MS, runs_by_span

Match = tuple[int, bytes]
"""Timestamp and serialized value of a row."""

Fetch = Callable[[list[bytes], list[int], list[int]], Sequence[bytes]]
"""The serialized values of rows by key, timestamp and sequence number; all are there."""

NO_MATCHES: list[Match] = []

_SPANS_OF_WINDOW = 2
_FEW_SPANS = 12  # beyond that the rows of a batch are far apart, and few spans have any

_SPAN_BYTES = 1_000  # what an empty one takes
_KEY_BYTES = 130  # a bytes object without its bytes, an int, a dict entry
_ROW_BYTES = 16  # time, sequence, link
_VALUE_BYTES = 45  # a bytes object without its bytes, its place in a list


class RecentRows:
    """Rows by key and time, several for each.

    Args:
        window_size_ms: The longest span of time that is asked for.
        memory_bytes: Bound for all rows; 0 keeps none.
        fetch: Reads values that are not kept here.

    Attributes:
        complete_from: All rows of this time (ms) and later are here.
        used_bytes: An estimate of what all rows take.
    """

    def __init__(self, window_size_ms: int, memory_bytes: int, fetch: Fetch) -> None:
        self._span_ms = max(window_size_ms // _SPANS_OF_WINDOW, MIN_SPAN_MS)
        self._spans_of_window = window_size_ms // self._span_ms + 1
        self._memory_bytes = memory_bytes
        self._fetch = fetch
        self.forget(complete_from=0)

    @property
    def rows_max(self) -> int:
        """About how many rows there may be with their values."""
        return self._memory_bytes // (_KEY_BYTES + _ROW_BYTES + _VALUE_BYTES)

    def forget(self, complete_from: int) -> None:
        """Forget all rows; those of ``complete_from`` (ms) and later will be added."""
        self._spans: dict[int, _Span] = {}
        self._numbers: list[int] = []  # of the spans, ascending
        self.used_bytes = 0
        self.complete_from = complete_from if self._memory_bytes else MAX_TIME

    def find(self, key: bytes, time_from: int, time_to: int) -> list[Match]:
        """The rows of a key in ``[time_from, time_to]`` (ms), in the order of time, then of arrival.

        That span must not be longer than a window, nor begin before ``complete_from``.
        """
        found = NO_MATCHES
        for number in range(time_from // self._span_ms, time_to // self._span_ms + 1):
            span = self._spans.get(number)
            if span is not None and (head := span.heads.get(key)) is not None:
                positions = span.positions(head, time_from, time_to)
                if positions:
                    found = found + self._matches(span, [key] * len(positions), positions)
        return found

    def find_many(self, probes: Probes) -> list[list[Match]]:
        """The rows that match each probe, as `find` gives them."""
        begin, end = probes.earliest // self._span_ms, probes.latest // self._span_ms
        if end - begin >= _FEW_SPANS:
            find = self.find
            return [
                NO_MATCHES if key is None else find(key, *probes.range(probe)) for probe, key in enumerate(probes.keys)
            ]
        found = [NO_MATCHES] * len(probes)
        for number in range(begin, end + 1):
            span = self._spans.get(number)
            if span is not None:
                self._find_in(span, found, probes)
        return found

    def _find_in(self, span: "_Span", found: list[list[Match]], probes: Probes) -> None:
        """Add the rows of one span to what was found in those before it; a list that grows is replaced."""
        keys = cast("Sequence[bytes]", probes.keys)
        heads: list[int] = list(map(span.heads.get, keys))  # type: ignore[arg-type]
        times, before, rows, positions_of, range_of = span.times, span.before, span.rows, span.positions, probes.range
        absent: list[tuple[int, int]] = []
        for probe in compress(range(len(keys)), heads):
            head = heads[probe]
            first, last = range_of(probe)
            if before[head]:
                positions = positions_of(head, first, last)
            elif first <= times[head] <= last:
                positions = [head]
            else:
                continue
            if rows is None:
                absent.extend([(probe, position) for position in positions])
            elif positions:
                matches = [(times[position], rows[position]) for position in positions]
                found[probe] = found[probe] + matches if found[probe] else matches
        if absent:
            matches = self._matches(span, [keys[probe] for probe, _ in absent], [position for _, position in absent])
            for (probe, _), match in zip(absent, matches, strict=True):
                found[probe] = [*found[probe], match]

    def _matches(self, span: "_Span", keys: list[bytes], positions: list[int]) -> list[Match]:
        """Some rows of a span, whose keys are these."""
        times = [span.times[position] for position in positions]
        if span.rows is not None:
            return [(time, span.rows[position]) for time, position in zip(times, positions, strict=True)]
        sequences = [span.sequence(position) for position in positions]
        return list(zip(times, self._fetch(keys, times, sequences), strict=True))

    def add(
        self,
        keys: list[bytes],
        rows: Sequence[bytes | None],
        timestamps: list[int],
        sequences: Sequence[int],
        live_from: int,
    ) -> None:
        """Keep rows, in the order of arrival; a None is left out, and what is older than ``live_from`` (ms)."""
        if not self._memory_bytes or not keys:
            return
        oldest = max(self.complete_from, live_from)
        if min(timestamps) < oldest or any_none(rows):
            kept = [
                number
                for number, (row, time) in enumerate(zip(rows, timestamps, strict=True))
                if row is not None and time >= oldest
            ]
            keys, rows = [keys[number] for number in kept], [rows[number] for number in kept]
            timestamps, sequences = [timestamps[number] for number in kept], [sequences[number] for number in kept]
            if not kept:
                return
        number, last_number = min(timestamps) // self._span_ms, max(timestamps) // self._span_ms
        if number == last_number:
            self._extend(number, keys, cast("Sequence[bytes]", rows), timestamps, sequences)
        else:
            self._spread(keys, cast("Sequence[bytes]", rows), timestamps, sequences)
        self._tidy(live_from)

    def _spread(
        self, keys: list[bytes], rows: Sequence[bytes], timestamps: list[int], sequences: Sequence[int]
    ) -> None:
        """Keep rows of several spans."""
        for number, run in runs_by_span(timestamps, self._span_ms):
            self._extend(number, keys[run], rows[run], timestamps[run], sequences[run])

    def _extend(
        self, number: int, keys: list[bytes], rows: Sequence[bytes], timestamps: list[int], sequences: Sequence[int]
    ) -> None:
        """Keep rows of one span."""
        span = self._spans.get(number)
        if span is None:
            span = self._spans[number] = _Span()
            insort(self._numbers, number)
            self.used_bytes += span.used_bytes
        self.used_bytes += span.add(keys, rows, timestamps, sequences)

    def _tidy(self, live_from: int) -> None:
        """Let go what is older than ``live_from`` (ms), and what matters least while there is too much."""
        numbers = self._numbers
        while numbers and (numbers[0] + 1) * self._span_ms <= live_from:
            self._drop()
        while numbers and self.used_bytes > self._memory_bytes:
            valued = next((span for number in numbers if (span := self._spans[number]).rows is not None), None)
            if valued is not None and numbers[0] >= numbers[-1] - self._spans_of_window:
                self.used_bytes -= valued.drop_values()
            else:
                self.complete_from = max(self.complete_from, (numbers[0] + 1) * self._span_ms)
                self._drop()

    def _drop(self) -> None:
        """Let the oldest span go."""
        self.used_bytes -= self._spans.pop(self._numbers.pop(0)).used_bytes


class _Span:
    """The rows of a span of time as columns, in the order of arrival, from place 1 on.

    Attributes:
        heads: The place of each key's last row.
        before: For each row the place of the one of its key before it, 0 for none.
        times: Timestamps (ms).
        rows: Serialized values; None when they are not kept.
        used_bytes: An estimate of what it takes.
    """

    __slots__ = (
        "_ascending",
        "_run_places",
        "_run_sequences",
        "_value_bytes",
        "before",
        "heads",
        "rows",
        "times",
        "used_bytes",
    )

    def __init__(self) -> None:
        self.heads: dict[bytes, int] = {}
        self.before = array("i", [0])
        self.times = array("q", [0])
        self._run_places = array("i")
        self._run_sequences = array("i")
        self.rows: list[bytes] | None = [b""]
        self.used_bytes = _SPAN_BYTES
        self._value_bytes = 0
        self._ascending = True

    def add(self, keys: list[bytes], rows: Sequence[bytes], timestamps: list[int], sequences: Sequence[int]) -> int:
        """Keep rows; gives the bytes that they take."""
        heads, before, known = self.heads, self.before, len(self.heads)
        first = len(before)
        before.frombytes(bytes(before.itemsize * len(keys)))
        enter = heads.setdefault
        for position, key in enumerate(keys, first):
            last = enter(key, position)
            if last != position:
                before[position] = last
                heads[key] = position
        self._ascending = self._ascending and self.times[-1] <= timestamps[0] and timestamps == sorted(timestamps)
        self.times += array("q", timestamps)
        self._number(first, sequences)
        added = len(keys) * _ROW_BYTES + (len(heads) - known) * (_KEY_BYTES + len(keys[-1]))
        if self.rows is not None:
            self.rows += rows
            value_bytes = len(keys) * (_VALUE_BYTES + len(rows[-1]))
            self._value_bytes += value_bytes
            added += value_bytes
        self.used_bytes += added
        return added

    def _number(self, first: int, sequences: Sequence[int]) -> None:
        """Take down the sequence numbers of the rows from place ``first`` on: where each run of them begins."""
        if isinstance(sequences, range):
            self._run_places.append(first)
            self._run_sequences.append(sequences.start)
            return
        expected = None
        for place, sequence in enumerate(sequences, first):
            if sequence != expected:
                self._run_places.append(place)
                self._run_sequences.append(sequence)
            expected = sequence + 1

    def sequence(self, position: int) -> int:
        """What tells a row apart in the store from those of its key and time."""
        run = bisect_right(self._run_places, position) - 1
        return self._run_sequences[run] + position - self._run_places[run]

    def positions(self, position: int, time_from: int, time_to: int) -> list[int]:
        """Where the rows of a key in ``[time_from, time_to]`` are, in order; ``position`` is that of its last row."""
        times, before, ascending = self.times, self.before, self._ascending
        found = []
        while position:
            time = times[position]
            if time_from <= time <= time_to:
                found.append(position)
            elif ascending and time < time_from:
                break
            position = before[position]
        found.reverse()
        if not ascending:
            found.sort(key=times.__getitem__)
        return found

    def drop_values(self) -> int:
        """Keep no values any more, only where they are; gives the bytes that are free now."""
        self.rows = None
        freed, self._value_bytes = self._value_bytes, 0
        self.used_bytes -= freed
        return freed
