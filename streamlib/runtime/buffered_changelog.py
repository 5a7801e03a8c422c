"""A changelog for a store that user code writes row by row: the producer gets a column for each run of records.

With caching, only the last update of each key between two commits is logged, in the order of those updates.
Source: ChangeLoggingKeyValueBytesStore, CachingKeyValueStore. Next: `record_collector`, which writes to the topic.
"""

from collections.abc import Sequence

from streamlib.record import Headers
from streamlib.state.base import ChangelogWriter


class BufferedChangelog:
    """Keeps updates until it is told to log them; implements `state.base.ChangelogWriter`.

    Args:
        writer: Where they go.
        caching: Whether an update replaces an earlier one of the same key, and waits for the commit.
    """

    def __init__(self, writer: ChangelogWriter, *, caching: bool) -> None:
        self._writer = writer
        self._caching = caching
        self._keys: list[bytes] = []
        self._values: list[bytes | None] = []
        self._timestamps: list[int] = []
        self._latest: dict[bytes, tuple[bytes | None, int]] = {}

    def append(
        self,
        keys: list[bytes],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Keep updates; those with headers are logged at once, after what was kept."""
        if headers is not None:
            self.log(commit=True)
            self._writer.append(keys, values, timestamps, headers)
        elif self._caching:
            for key, value, timestamp in zip(keys, values, timestamps, strict=True):
                self._latest.pop(key, None)
                self._latest[key] = value, timestamp
        else:
            self._keys += keys
            self._values += values
            self._timestamps += timestamps

    def log(self, *, commit: bool) -> None:
        """Hand on what was kept.

        Args:
            commit: Whether that is everything; cached updates wait for it.
        """
        if commit and self._latest:
            self._keys += self._latest
            self._values += [value for value, _ in self._latest.values()]
            self._timestamps += [timestamp for _, timestamp in self._latest.values()]
            self._latest = {}
        if self._keys:
            keys, values, timestamps = self._keys, self._values, self._timestamps
            self.discard(but_cached=True)
            self._writer.append(keys, values, timestamps)

    def discard(self, *, but_cached: bool = False) -> None:
        """Forget what was kept."""
        self._keys, self._values, self._timestamps = [], [], []
        if not but_cached:
            self._latest = {}
