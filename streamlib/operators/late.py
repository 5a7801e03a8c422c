"""Records that came too late for a window go another way: each as it came, with what it missed in its headers.

There is one for each time that a record is counted as left out for being late, so a record that missed three hopping
windows comes three times. Next: `window_aggregate`, `sliding_aggregate`, `session_aggregate` and `join_streams`, which
find them.
"""

from typing import Any

from streamlib.operators.base import Forward
from streamlib.operators.selection import picked
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch

WINDOW_START = "streamlib.late.window.start"
WINDOW_END = "streamlib.late.window.end"
STREAM_TIME = "streamlib.late.stream.time"


class LateRecords:
    """Gathers the late records of a batch, then passes them on.

    Args:
        forward: Where they go.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._rows: list[int] = []
        self._headers: list[tuple[tuple[str, bytes], ...]] = []

    def add(self, row: int, start: int, end: int, stream_time: int) -> None:
        """A record has missed a window.

        Args:
            row: Of the batch that is sent next.
            start: First millisecond of the window.
            end: Its end, as in `Windowed`.
            stream_time: What has closed it.
        """
        self._rows.append(row)
        self._headers.append(
            (
                (WINDOW_START, b"%d" % start),
                (WINDOW_END, b"%d" % end),
                (STREAM_TIME, b"%d" % stream_time),
            )
        )

    def send(self, batch: RecordBatch) -> None:
        """Pass on what was added, with headers behind those the records have."""
        if not self._rows:
            return
        late, added = picked(batch, self._rows), self._headers
        self._rows, self._headers = [], []
        late.headers = (
            list(added)
            if late.headers is None
            else [(*own, *more) for own, more in zip(late.headers, added, strict=True)]
        )
        self._forward(late)


def late_records(node: Any, wiring: Wiring) -> LateRecords | None:
    """What takes the late records of a node; None when they are only counted."""
    return None if node.late is None else LateRecords(wiring.forward_to(node.late))
