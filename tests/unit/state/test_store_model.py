"""Stores against a dict: any order of puts, commits, half-done commits, discards and restarts."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamlib.serdes.primitives import INT64
from streamlib.state.base import Engine, TableWrites
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine, RocksMemory
from streamlib.state.window import WindowTimestampedStore, split_window_store_key, window_store_key

RETENTION_MS = 120_000
INTERVAL_MS = 60_000
MEMORY = RocksMemory(16 * 1024 * 1024)

plain_keys = st.sampled_from([b"", b"a", b"a\x00", b"b", b"\xff"])
starts = st.integers(0, 8).map(lambda half: half * 30_000) | st.sampled_from([1, 59_999, 120_001, 299_999])
values = st.none() | st.integers(0, 9)
bounds = st.none() | st.binary(max_size=2)

Rows = dict[bytes, tuple[int, int]]


class Changelog:
    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None, int]] = []

    def append(
        self, keys: list[bytes], values: list[bytes | None], timestamps: list[int], headers: object = None
    ) -> None:
        self.records += zip(keys, values, timestamps, strict=True)


class StoreMachine(RuleBasedStateMachine):
    """Compares a store with ``rows``, the model of what it has, and ``committed``, of what its engine has."""

    on_disk: ClassVar[bool]
    keys: ClassVar[st.SearchStrategy[bytes]]

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.directory: Path | None = None
        self.rows: Rows = {}
        self.observed = -1
        self.committed = self.model()
        self.sent: tuple[TableWrites, tuple[Rows, int], int] | None = None
        self.changelog = Changelog()
        self.offset = 0

    def open_store(self, engine: Engine, changelog: Changelog | None) -> Any:
        raise NotImplementedError

    def model(self) -> tuple[Rows, int]:
        return dict(self.rows), self.observed

    def model_put(self, key: bytes, value: int | None, timestamp: int) -> None:
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = (value, timestamp)

    def readable(self, key: bytes) -> bool:
        raise NotImplementedError

    def expected(self) -> Rows:
        return {key: row for key, row in self.rows.items() if self.readable(key)}

    @initialize(cache_bytes=st.sampled_from([0, 2000, 1_000_000]))
    def open_first(self, cache_bytes: int) -> None:
        self.cache_bytes = cache_bytes
        if self.on_disk:
            self.directory = Path(tempfile.mkdtemp())
        self.open_again()

    def open_again(self) -> None:
        self.engine: Engine = MemoryEngine() if self.directory is None else RocksEngine.open(self.directory, MEMORY)
        self.store = self.open_store(self.engine, self.changelog)

    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(self.keys, max_size=6))
        new = [data.draw(values) for _ in keys]
        timestamps = list(range(self.clock, self.clock + len(keys)))
        self.clock += len(keys)
        self.store.put_many(keys, new, timestamps)
        for row in zip(keys, new, timestamps, strict=True):
            self.model_put(*row)

    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(self.keys, max_size=8))
        expected = self.expected()
        assert self.store.get_many(keys) == [expected.get(key) for key in keys]

    @rule(start=bounds, end=bounds, reverse=st.booleans())
    def scan(self, start: bytes | None, end: bytes | None, reverse: bool) -> None:
        found = [(key, (value, timestamp)) for key, value, timestamp in self.store.scan(start, end, reverse=reverse)]
        assert found == self.in_order(
            [
                (key, row)
                for key, row in self.expected().items()
                if (start is None or key >= start) and (end is None or key < end)
            ],
            reverse,
        )

    def in_order(self, rows: list[tuple[bytes, Any]], reverse: bool) -> list[tuple[bytes, Any]]:
        return sorted(rows, reverse=reverse)

    @precondition(lambda self: self.sent is None)
    @rule()
    def begin_commit(self) -> None:
        self.sent = (self.store.pending(), self.model(), len(self.changelog.records))

    @precondition(lambda self: self.sent is not None)
    @rule(told=st.booleans())
    def finish_commit(self, told: bool) -> None:
        """Write; without being told (``applied``) only a restart may follow."""
        assert self.sent is not None
        writes, self.committed, self.offset = self.sent
        self.engine.write(writes, {"s": self.offset})
        if told or not self.on_disk:
            self.store.applied()
            self.sent = None
        else:
            self.restart()

    @rule()
    def discard(self) -> None:
        self.store.discard()
        self.go_back()

    @precondition(lambda self: self.on_disk)
    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.open_again()
        self.go_back()

    def go_back(self) -> None:
        rows, self.observed = self.committed
        self.rows = dict(rows)
        self.sent = None
        del self.changelog.records[self.offset :]

    @invariant()
    def offset_is_that_of_the_last_commit(self) -> None:
        if hasattr(self, "engine"):
            assert self.engine.offsets().get("s", 0) == self.offset

    @rule()
    def restored_store_is_equal(self) -> None:
        restored = self.open_store(MemoryEngine(), None)
        restored.restore(
            *map(list, zip(*self.changelog.records, strict=True)) if self.changelog.records else ([], [], [])
        )
        assert list(restored.scan()) == list(self.store.scan())

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
        if self.directory is not None:
            shutil.rmtree(self.directory)


class KeyValueMachine(StoreMachine):
    keys = plain_keys

    def open_store(self, engine: Engine, changelog: Changelog | None) -> Any:
        return KeyValueTimestampedStore("s", INT64, engine, changelog, cache_bytes=self.cache_bytes)

    def readable(self, key: bytes) -> bool:
        return True


class WindowMachine(StoreMachine):
    keys = st.builds(window_store_key, plain_keys, starts)

    def open_store(self, engine: Engine, changelog: Changelog | None) -> Any:
        return WindowTimestampedStore(
            "s", INT64, engine, changelog, retention_ms=RETENTION_MS, cache_bytes=self.cache_bytes
        )

    def model_put(self, key: bytes, value: int | None, timestamp: int) -> None:
        start = split_window_store_key(key)[1]
        self.observed = max(self.observed, start)
        if start // INTERVAL_MS >= (self.observed - RETENTION_MS) // INTERVAL_MS:
            super().model_put(key, value, timestamp)

    def readable(self, key: bytes) -> bool:
        return split_window_store_key(key)[1] >= self.observed - RETENTION_MS + 1

    def in_order(self, rows: list[tuple[bytes, Any]], reverse: bool) -> list[tuple[bytes, Any]]:
        return sorted(rows, key=lambda row: (split_window_store_key(row[0])[1] // INTERVAL_MS, row[0]), reverse=reverse)

    @rule(key=plain_keys, time_from=starts, time_to=starts, reverse=st.booleans())
    def fetch(self, key: bytes, time_from: int, time_to: int, reverse: bool) -> None:
        expected = sorted(
            (
                (start, *row)
                for store_key, row in self.expected().items()
                for plain, start in [split_window_store_key(store_key)]
                if plain == key and time_from <= start <= time_to
            ),
            reverse=reverse,
        )
        assert list(self.store.fetch(key, time_from, time_to, reverse=reverse)) == expected

    @invariant()
    def stream_time_is_the_highest_start(self) -> None:
        if hasattr(self, "store"):
            assert self.store.observed_stream_time == self.observed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "on_disk", "examples"),
    [
        (KeyValueMachine, False, 60),
        (KeyValueMachine, True, 10),
        (WindowMachine, False, 100),
        (WindowMachine, True, 10),
    ],
)
def test_store_equals_a_dict_whatever_happens(machine: type[StoreMachine], on_disk: bool, examples: int) -> None:
    case = type(f"{machine.__name__}OnDisk{on_disk}", (machine,), {"on_disk": on_disk}).TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case("runTest").runTest()
