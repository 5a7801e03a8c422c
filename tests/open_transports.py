"""Which test left a connection open: found when its loop has closed, not when the collector comes by in a later test.

Next: ``conftest.py``, which looks after each test.
"""

import os
from asyncio.selector_events import _SelectorTransport  # type: ignore[attr-defined]
from typing import Any
from weakref import WeakKeyDictionary

_made_in: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def watch() -> None:
    """From now on `left_open` knows each transport and the test that made it."""
    make = _SelectorTransport.__init__

    def make_known(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        _made_in[self] = os.environ.get("PYTEST_CURRENT_TEST", "no test")

    _SelectorTransport.__init__ = make_known


def still_open() -> list[str]:
    """Each open transport of any loop, with the test that made it."""
    return [_told(transport) for transport in _made_in if transport._sock is not None]


def left_open() -> list[str]:
    """Transports that nobody can close any more, since their loop is closed; each is told once."""
    lost = [each for each in _made_in if each._sock is not None and each._loop.is_closed()]
    told = [_told(transport) for transport in lost]
    for transport in lost:
        del _made_in[transport]
    return told


def _told(transport: Any) -> str:
    kind, peer = type(transport).__name__, transport.get_extra_info("peername")
    state = f"closing, {transport.get_write_buffer_size()} B unsent" if transport.is_closing() else "not closed"
    return f"{kind} to {peer}, {state}, made in {_made_in[transport]}"
