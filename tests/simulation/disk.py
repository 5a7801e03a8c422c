"""Disks that outlive the processes that write to them: state directories without databases, in place of the real ones.

What was written stays, a batch at a time or, when it is large, a chunk at a time, as with RocksDB. A disk belongs to a
worker's machine: who is started there again finds what the one before has left. It may be full for a while; an engine
that has seen that takes nothing until it is opened again. The few small files beside the stores are real ones.

Next: `scenario`, which looks at what is left in the end.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from streamlib.errors import DiskFullError
from streamlib.runtime import application
from streamlib.state.base import Engine, TableWrites
from streamlib.state.directory import GLOBAL
from streamlib.state.memory import MemoryEngine
from tests.simulation.application import NAME

CHUNK_ROWS = 3


class DiskEngine(MemoryEngine):
    """An `Engine` whose rows stay when it is closed, and that writes large batches in chunks.

    Attributes:
        takes_nothing: Whether a write has found the disk full since it was opened.
    """

    def __init__(self, disk: "Disk | None" = None) -> None:
        super().__init__()
        self.takes_nothing = False
        self._disk = disk

    def write(self, writes: TableWrites, offsets: Mapping[str, int]) -> None:
        """Write, if there is room."""
        if self._disk is not None and self._disk.full():
            self._disk.refusals += 1
            self.takes_nothing = True
        if self.takes_nothing:
            msg = "the disk is full"
            raise DiskFullError(msg)
        super().write(writes, offsets)

    def write_chunks(self, writes: TableWrites, offsets: Mapping[str, int]) -> Iterator[int]:
        """A few rows at a time, the offsets with the last ones."""
        left = [(table, key, row) for table, rows in writes.items() for key, row in rows.items()]
        remaining = iter(left)
        while len(chunk := list(islice(remaining, CHUNK_ROWS))) == CHUNK_ROWS:
            self.write(_tables(chunk), {})
            yield len(chunk)
        self.write(_tables(chunk), offsets)
        yield len(chunk)

    def close(self) -> None:
        """Stay as it is."""

    def destroy(self) -> None:
        """Lose everything."""
        self._tables.clear()
        self._offsets.clear()


def _tables(rows: list[tuple[str, bytes, bytes | None]]) -> dict[str, dict[bytes, bytes | None]]:
    tables: dict[str, dict[bytes, bytes | None]] = {}
    for table, key, row in rows:
        tables.setdefault(table, {})[key] = row
    return tables


class Disk:
    """One machine's disk.

    Args:
        state_dir: Where its small files are; its last part names the machine.

    Attributes:
        engines: By task id.
        full: Whether there is no room now.
        refusals: Writes that found none.
    """

    def __init__(self, state_dir: Path) -> None:
        self.name = state_dir.name
        self.state_dir = state_dir
        self.path = state_dir / NAME
        self.engines: dict[str, DiskEngine] = {}
        self.full: Callable[[], bool] = lambda: False
        self.refusals = 0

    def process_id(self) -> str:
        """Whose disk it is."""
        return self.name

    def task_path(self, task_id: str) -> Path:
        """A name; there is no such file."""
        return self.path / task_id

    def task_ids(self) -> list[str]:
        """Tasks that were here."""
        return sorted(task for task, engine in self.engines.items() if task != GLOBAL and engine.tables())

    def open_engine(self, task_id: str, persistent: bool) -> Engine:
        """An engine."""
        if not persistent:
            return MemoryEngine()
        engine = self.engines.setdefault(task_id, DiskEngine(self))
        engine.takes_nothing = False
        return engine

    def remove_unowned(self, owned: Collection[str], unused_since_ms: int) -> list[str]:
        """Nothing gets as old as that."""
        return []

    def close(self) -> None:
        """Let others have it."""


class _Directories:
    """Stands in for `StateDirectory`: opens the disk that a path names."""

    def __init__(self, disks: Mapping[Path, Disk]) -> None:
        self._disks = disks

    def open(self, state_dir: Path, application_id: str, memory: object) -> Disk:
        """The disk of that machine."""
        disk = self._disks[state_dir]
        disk.path.mkdir(parents=True, exist_ok=True)
        return disk


@contextmanager
def in_place_of_databases(disks: Collection[Disk]) -> Iterator[None]:
    """Workers that are opened inside have these disks, by their ``state_dir``."""
    stand_ins = {
        "StateDirectory": _Directories({disk.state_dir: disk for disk in disks}),
        "RocksMemory": lambda size: None,
    }
    kept = {name: getattr(application, name) for name in stand_ins}
    for name, stand_in in stand_ins.items():
        setattr(application, name, stand_in)
    try:
        yield
    finally:
        for name, real in kept.items():
            setattr(application, name, real)
