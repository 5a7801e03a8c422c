"""A timer for each key, set by user code, kept in a store: it fires once, also if the worker has crashed meanwhile.

What is set is in memory too, by time. Only the first timer is with the task's schedules; when it fires it hands over to
the next one, so that an error in one does not hold up the others. Next: `runtime/punctuation`, the task's schedules.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from streamlib.serdes.base import AnySerde
from streamlib.state.key_value_facade import KeyValueStore
from streamlib.topology.processor_api import Cancellable, Punctuator

STALE_MAX = 1_000


class StoredKeyTimers:
    """Timers of one processor and store; implements `processor_api.KeyTimers`.

    Args:
        store: Times by key.
        key_serde: Of the keys.
        schedule_at: Has a punctuator called once, at a time.
        on_timer: The user's function.
    """

    def __init__(
        self,
        store: KeyValueStore[Any, int],
        key_serde: AnySerde,
        schedule_at: Callable[[int, Punctuator], Cancellable],
        on_timer: Callable[[Any, int], object],
    ) -> None:
        self._store = store
        self._serialize = key_serde.serialize
        self._schedule_at = schedule_at
        self._on_timer = on_timer
        self._timers = {self._serialize(key): (at_ms, key) for key, at_ms in store.all()}
        self._order = [(at_ms, raw) for raw, (at_ms, _) in self._timers.items()]
        heapify(self._order)
        self._scheduled: tuple[int, Cancellable] | None = None
        self._schedule_first()

    def set(self, key: Any, at_ms: int) -> None:
        """Set the timer of a key, in place of the one it had."""
        self._store.put(key, at_ms)
        raw = self._serialize(key)
        self._timers[raw] = at_ms, key
        heappush(self._order, (at_ms, raw))
        if len(self._order) > 2 * len(self._timers) + STALE_MAX:
            self._order = [(at_ms, raw) for raw, (at_ms, _) in self._timers.items()]
            heapify(self._order)
        self._schedule_first()

    def cancel(self, key: Any) -> bool:
        """Take the timer of a key away; whether it had one."""
        if self._timers.pop(self._serialize(key), None) is None:
            return False
        self._store.delete(key)
        self._schedule_first()
        return True

    def get(self, key: Any) -> int | None:
        """When the timer of a key fires; None when it has none."""
        timer = self._timers.get(self._serialize(key))
        return None if timer is None else timer[0]

    def _schedule_first(self) -> None:
        """Have the first timer fire, and no other."""
        order, timers = self._order, self._timers
        while order and timers.get(order[0][1], (None,))[0] != order[0][0]:  # it was set anew, or cancelled
            heappop(order)
        if self._scheduled is not None:
            if order and self._scheduled[0] == order[0][0]:
                return
            self._scheduled[1].cancel()
            self._scheduled = None
        if order:
            at_ms = order[0][0]
            self._scheduled = at_ms, self._schedule_at(at_ms, self._fire)

    def _fire(self, _now: int) -> None:
        at_ms, raw = heappop(self._order)
        _, key = self._timers.pop(raw)
        self._scheduled = None
        self._store.delete(key)
        self._schedule_first()
        self._on_timer(key, at_ms)
