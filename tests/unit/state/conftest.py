from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from streamlib.record import Headers
from streamlib.state.base import Engine, TableWrites
from streamlib.state.logged import LoggedEngine, LogMemory
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine, RocksMemory


class RecordedChangelog:
    """A changelog that keeps what is appended, as columns."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self.timestamps: list[int] = []
        self.headers: list[Headers] = []

    def append(
        self,
        keys: list[bytes],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        self.keys += keys
        self.values += values
        self.timestamps += timestamps
        self.headers += [()] * len(keys) if headers is None else headers

    @property
    def records(self) -> list[tuple[bytes, bytes | None, int]]:
        return list(zip(self.keys, self.values, self.timestamps, strict=True))


@pytest.fixture
def changelog() -> RecordedChangelog:
    return RecordedChangelog()


@pytest.fixture(scope="session")
def memory() -> RocksMemory:
    return RocksMemory(32 * 1024 * 1024)


@pytest.fixture
def open_rocks(tmp_path: Path, memory: RocksMemory) -> Iterator[Callable[[], RocksEngine]]:
    """Opens an engine on the same directory each time; the last one is closed at the end."""
    opened: list[RocksEngine] = []

    def open_again() -> RocksEngine:
        for engine in opened:
            engine.close()
        opened[:] = [RocksEngine.open(tmp_path / "0_0", memory)]
        return opened[0]

    yield open_again
    for engine in opened:
        engine.close()


class CommittedEngine(LoggedEngine):
    """All rows go through the log."""

    def write(self, writes: TableWrites, offsets: Mapping[str, int]) -> None:
        for _ in self.log(writes, offsets):
            pass


@pytest.fixture(params=["memory", "rocksdb", "logged"])
def engine(request: pytest.FixtureRequest, open_rocks: Callable[[], RocksEngine]) -> Engine:
    if request.param == "memory":
        return MemoryEngine()
    return open_rocks() if request.param == "rocksdb" else CommittedEngine(open_rocks(), LogMemory(1 << 20))
