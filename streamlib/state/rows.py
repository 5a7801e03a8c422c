"""Rows in memory that lie over rows below: how a layer hides, adds to and measures what it has.

Next: `sorted_keys`, which gives them an order; `logged` and `table`, which are such layers.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

Rows = dict[bytes, bytes | None]
"""Rows by key; None marks a deleted one."""

MISSING: Final[Any] = object()
"""Stands for a row about which a layer knows nothing; None is a deleted row."""

ROW_OVERHEAD_BYTES = 170  # two bytes objects and a dict entry

_SAMPLED_ROWS = 32


def mean_bytes(rows: Mapping[bytes, bytes | None]) -> int:
    """The mean size of key and row, by a few of them; there must be one."""
    sample = list(islice(rows.items(), _SAMPLED_ROWS))
    return sum(len(key) + (len(row) if row else 0) for key, row in sample) // len(sample)


def lay_over(
    found: list[list[tuple[bytes, bytes]]], rows: Rows, keys_of_ranges: Iterable[tuple[int, list[bytes]]]
) -> None:
    """Put the rows of some ranges over what lies below, in place.

    Args:
        found: The rows below, for each range in key order.
        rows: What lies over them.
        keys_of_ranges: The number of a range and those keys of ``rows`` that are in it.
    """
    for number, keys in keys_of_ranges:
        both: Rows = {**dict(found[number]), **{key: rows[key] for key in keys}}
        found[number] = [(key, row) for key in sorted(both) if (row := both[key]) is not None]


def merged(
    recent: list[tuple[bytes, bytes | None]], stored: Iterator[tuple[bytes, bytes]], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Both inputs in order; of equal keys the recent row wins, and None hides a stored one."""
    position, count = 0, len(recent)
    for key, row in stored:
        hidden = False
        while position < count and not hidden:
            recent_key, recent_row = recent[position]
            if recent_key == key:
                hidden = True
            elif (recent_key < key) is reverse:
                break
            position += 1
            if recent_row is not None:
                yield recent_key, recent_row
        if not hidden:
            yield key, row
    for recent_key, recent_row in recent[position:]:
        if recent_row is not None:
            yield recent_key, recent_row
