"""A test that runs alone has the machine to itself; the others share it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import side_by_side


class Item:
    """What is asked of a test."""

    def __init__(self, *markers: str) -> None:
        self._markers = markers

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self._markers else None


@pytest.fixture(autouse=True)
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another lock than the one that this test holds while it runs."""
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(side_by_side, "LOCKED", path)
    return path


@contextmanager
def another(path: Path, kind: int) -> Iterator[None]:
    """Another process in the middle of a test; raises when it would have to wait."""
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_nothing_runs_beside_a_test_that_runs_alone(locked: Path, kind: int) -> None:
    with (
        side_by_side.turn(Item("alone", "slow")),  # type: ignore[arg-type]
        pytest.raises(BlockingIOError),
        another(locked, kind),
    ):
        pass
    with another(locked, kind):
        pass


def test_tests_run_beside_each_other_but_not_beside_one_that_runs_alone(locked: Path) -> None:
    with side_by_side.turn(Item()), another(locked, fcntl.LOCK_SH):  # type: ignore[arg-type]
        pass
    with (
        side_by_side.turn(Item("slow")),  # type: ignore[arg-type]
        pytest.raises(BlockingIOError),
        another(locked, fcntl.LOCK_EX),
    ):
        pass


def test_long_tests_come_first_and_those_that_run_alone_last() -> None:
    items = [Item("alone"), Item(), Item("slow", "alone"), Item("slow")]
    assert sorted(items, key=side_by_side.place) == [items[3], items[1], items[0], items[2]]  # type: ignore[arg-type, type-var]
