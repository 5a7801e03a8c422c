"""Which tests may run beside others, when several processes share them out (``pytest -n 2``).

A test that measures time is marked `alone`: it waits until no other test runs, in any process, and keeps them waiting.
Next: ``conftest.py``, which asks before each test.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LOCKED = Path(__file__)
"""Any file that all processes have: only its lock is used."""


def place(item: pytest.Item) -> int:
    """Long tests come first, so that no process waits for another's at the end; those that run alone come last."""
    if item.get_closest_marker("alone"):
        return 2
    return 0 if item.get_closest_marker("slow") else 1


@contextmanager
def turn(item: pytest.Item) -> Iterator[None]:
    """The time in which a test may run."""
    lock = os.open(LOCKED, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)
