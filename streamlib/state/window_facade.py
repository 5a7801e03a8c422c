"""Window stores as user code sees them: a value for each key and window start. Times are in ms, bounds inclusive.

What was said of `key_value_facade` holds here. Rows past the retention are neither read nor written.

Source: WindowStore, TimestampedWindowStore, ReadOnlyWindowStore. Next: `builders`, which describes stores.
"""

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from streamlib.record import Windowed
from streamlib.state.facade import Facade, Stamp
from streamlib.state.key_value_facade import Rows, ValueAndTimestamp
from streamlib.state.spec import StoreSpec
from streamlib.state.window import split_window_store_key, window_store_key

K = TypeVar("K")
V = TypeVar("V")

MAX_TIME = 0x7FFFFFFF_FFFFFFFF


class WindowRows(Rows, Protocol):
    """What lies below: rows by window store key, as `state.window.WindowTimestampedStore` has them."""

    def fetch(
        self, key: bytes, time_from: int, time_to: int, *, reverse: bool = False
    ) -> Iterator[tuple[int, Any, int]]:
        """The windows of one key as (window start, value, timestamp), in the order of time."""

    def fetch_all(self, time_from: int, time_to: int, *, reverse: bool = False) -> Iterator[tuple[bytes, Any, int]]:
        """All windows that start in ``[time_from, time_to]`` as (store key, value, timestamp)."""


class ReadOnlyWindowStore(Facade[K, WindowRows], Generic[K, V]):
    """A value for each key and window; made by the runtime."""

    def fetch(self, key: K, window_start: int) -> V | None:
        """The value of one window; None when there is none."""
        row = self._rows.get(window_store_key(self._raw(key), window_start))
        return None if row is None else self._shown(row[0], row[1])

    def fetch_range(self, key: K, time_from: int, time_to: int) -> Iterator[tuple[int, V]]:
        """The windows of a key that start from ``time_from`` to ``time_to``, as (window start, value), oldest first."""
        return self._of_key(key, time_from, time_to, reverse=False)

    def backward_fetch_range(self, key: K, time_from: int, time_to: int) -> Iterator[tuple[int, V]]:
        """The same, latest first."""
        return self._of_key(key, time_from, time_to, reverse=True)

    def fetch_keys(
        self, first: K | None, last: K | None, time_from: int, time_to: int
    ) -> Iterator[tuple[Windowed[K], V]]:
        """The windows of the keys from ``first`` to ``last`` (None: no bound) that start within the times."""
        return self._of_keys(first, last, time_from, time_to, reverse=False)

    def backward_fetch_keys(
        self, first: K | None, last: K | None, time_from: int, time_to: int
    ) -> Iterator[tuple[Windowed[K], V]]:
        """The same backwards."""
        return self._of_keys(first, last, time_from, time_to, reverse=True)

    def fetch_all(self, time_from: int, time_to: int) -> Iterator[tuple[Windowed[K], V]]:
        """All windows that start from ``time_from`` to ``time_to``: segment by segment, in the order of their keys."""
        return self._of_keys(None, None, time_from, time_to, reverse=False)

    def backward_fetch_all(self, time_from: int, time_to: int) -> Iterator[tuple[Windowed[K], V]]:
        """The same backwards."""
        return self._of_keys(None, None, time_from, time_to, reverse=True)

    def all(self) -> Iterator[tuple[Windowed[K], V]]:
        """All windows, in the order of `fetch_all`."""
        return self._of_keys(None, None, 0, MAX_TIME, reverse=False)

    def backward_all(self) -> Iterator[tuple[Windowed[K], V]]:
        """The same backwards."""
        return self._of_keys(None, None, 0, MAX_TIME, reverse=True)

    def _of_key(self, key: K, time_from: int, time_to: int, *, reverse: bool) -> Iterator[tuple[int, V]]:
        rows = self._rows.fetch(self._raw(key), time_from, time_to, reverse=reverse)
        return ((start, self._shown(value, timestamp)) for start, value, timestamp in rows)

    def _of_keys(
        self, first: K | None, last: K | None, time_from: int, time_to: int, *, reverse: bool
    ) -> Iterator[tuple[Windowed[K], V]]:
        lowest = None if first is None else self._raw(first)
        highest = None if last is None else self._raw(last)
        deserialize, size_ms = self._spec.key_serde.deserialize, self._spec.window_size_ms or 0
        for store_key, value, timestamp in self._rows.fetch_all(time_from, time_to, reverse=reverse):
            raw, start = split_window_store_key(store_key)
            if (lowest is None or raw >= lowest) and (highest is None or raw <= highest):
                window = Windowed(deserialize(raw), start, min(start + size_ms, MAX_TIME))
                yield window, self._shown(value, timestamp)

    def _shown(self, value: Any, timestamp: int) -> V:
        shown: V = value
        return shown


class WindowStore(ReadOnlyWindowStore[K, V]):
    """A value for each key and window, to read and to write; made by the runtime."""

    def __init__(self, spec: StoreSpec, rows: WindowRows, stamp: Stamp) -> None:
        super().__init__(spec, rows)
        self._stamp = stamp

    def put(self, key: K, value: V | None, window_start: int) -> None:
        """Set the value of a window; None deletes it. A window past the retention is left out and counted.

        Raises:
            SerdeError: The key is None, or a serde refuses key or value; nothing was written.
        """
        plain, timestamp = self._parts(value)
        self._rows.put_many([window_store_key(self._raw(key), window_start)], [plain], [timestamp])

    def _parts(self, value: Any) -> tuple[Any, int]:
        return value, self._stamp.timestamp


class ReadOnlyTimestampedWindowStore(ReadOnlyWindowStore[K, ValueAndTimestamp[V]]):
    """A windowed table's rows, with their timestamps; made by the runtime."""

    def _shown(self, value: Any, timestamp: int) -> ValueAndTimestamp[V]:
        return ValueAndTimestamp(value, timestamp)


class TimestampedWindowStore(WindowStore[K, ValueAndTimestamp[V]]):
    """The same to read and to write."""

    def _shown(self, value: Any, timestamp: int) -> ValueAndTimestamp[V]:
        return ValueAndTimestamp(value, timestamp)

    def _parts(self, value: Any) -> tuple[Any, int]:
        return (None, self._stamp.timestamp) if value is None else value
