"""Builds one operator, or the region below one node, with real stores; what it forwards is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamlib.errors import ProcessingError
from streamlib.metrics import Metrics
from streamlib.operators.base import Forward
from streamlib.operators.fusion import fuse
from streamlib.operators.session_rows import session_rows
from streamlib.operators.table_rows import TableRows
from streamlib.operators.wiring import Wiring
from streamlib.record import ChangeBatch, Headers, RecordBatch, TopicPartition
from streamlib.runtime.lowering import GETTERS
from streamlib.serdes import JSON, STRING
from streamlib.state.cache import WriteCache
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.memory import MemoryEngine
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import open_store
from streamlib.testing.clock import ManualClock
from streamlib.topology.interference import region
from streamlib.topology.nodes import Node, Sink, Source
from streamlib.topology.topology import Topology


def store_spec(name: str, **changes: Any) -> StoreSpec:
    settings: dict[str, Any] = {"kind": "key_value", "key_serde": STRING, "value_serde": JSON, "persistent": False}
    return StoreSpec(name=name, **{**settings, **changes})


@dataclass
class Changelog:
    rows: list[tuple[bytes, bytes | None, int]] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)

    def append(
        self,
        keys: list[bytes],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        self.rows.extend(zip(keys, values, timestamps, strict=True))
        self.headers.extend([()] * len(keys) if headers is None else headers)


@dataclass
class Site:
    """The surroundings of the operator under test: also the task's side of `OperatorContext` and `ErrorHandler`."""

    skip_errors: bool = False
    metrics: Metrics = field(default_factory=Metrics)
    out: list[RecordBatch] = field(default_factory=list)
    sent: list[tuple[str, RecordBatch]] = field(default_factory=list)
    topics: list[str | None] = field(default_factory=list)
    failures: list[tuple[str, str, Any, Any, int, int | None]] = field(default_factory=list)
    changelog: Changelog = field(default_factory=Changelog)
    clock: ManualClock = field(default_factory=ManualClock)
    emit_interval_ms: int = 0
    close_windows_after_idle_ms: int = 0
    partition: int = 0
    stream_time: int = -1
    processor_metadata: dict[str, int] = field(default_factory=dict)
    tp: TopicPartition | None = field(default_factory=lambda: TopicPartition("in", 0))
    inputs: Mapping[str, TopicPartition] = field(default_factory=lambda: {"in": TopicPartition("in", 0)})

    @property
    def errors(self) -> "Site":
        return self

    @property
    def collector(self) -> "Site":
        return self

    def send(self, sink: Sink, batch: RecordBatch, topic: str | None = None, errors: Any = None) -> None:
        self.sent.append((sink.name, batch))
        self.topics.append(topic)

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        self.failures.append((repr(error), node, key, value, timestamp, offset))
        if not self.skip_errors:
            raise ProcessingError(f"{node} failed at offset {offset}") from error

    def build(
        self,
        builder: Callable[[Any, Wiring], Any],
        node: Node,
        *,
        others: Iterable[Node] = (),
        spec: StoreSpec | None = None,
        specs: Iterable[StoreSpec] = (),
        cache_bytes: int = 0,
    ) -> Any:
        """The operator of a node whose stores are described by ``spec`` and ``specs``; they share a changelog."""
        self.tables: dict[str, TableRows] = {}
        self.stores: dict[str, Any] = {}
        memory = CacheMemory(cache_bytes) if cache_bytes else None
        described = {each.name: each for each in [*([] if spec is None else [spec]), *specs]}
        for each in described.values():
            self.stores[each.name] = store = open_store(each, MemoryEngine(), self.changelog)
            if not each.is_table:
                continue
            send_old = getattr(node, "send_old", False)
            if each.kind == "session":
                self.tables[each.name] = session_rows(each, store, memory=memory, send_old=send_old)
                continue
            cache: WriteCache[Any] | None = None
            if memory is not None:
                cache = WriteCache(store, each.value_serde, memory=memory, send_old=send_old)
            self.tables[each.name] = TableRows(each, store, cache)
        topology = Topology("test", {each.name: each for each in [*others, node]}, described, ())
        return builder(node, Wiring(topology, self, self.tables, self.stores, self.out.append, GETTERS))

    def fuse(self, *nodes: Node, file_name: str = "<streamlib subtopology 0 source>") -> Forward:
        """The region below the node ``source``, which is added; rows of an exit go to ``sent``."""
        source = Source(name="source", topics=("in",), key_serde=STRING, value_serde=JSON)
        topology = Topology("test", {each.name: each for each in [source, *nodes]}, {}, ())

        def keep(name: str) -> Forward:
            return lambda batch: self.sent.append((name, batch))

        forwards = {name: keep(name) for name in region(topology, "source")[1]}
        return fuse(topology, "source", forwards, self, file_name)

    def forwarded(self) -> list[tuple[Any, ...]]:
        """Everything forwarded since the last call as (key, value, timestamp), and the old value if any were sent."""
        rows = [row for batch in self.out for row in rows_of(batch)]
        self.out.clear()
        return rows

    def exited(self, name: str) -> list[tuple[Any, ...]]:
        """What came out of a region at one exit, as (key, value, timestamp)."""
        return [row for exit_, batch in self.sent if exit_ == name for row in rows_of(batch)]

    def stored(self, name: str) -> dict[bytes, tuple[Any, int]]:
        """The rows of a store, without the cache."""
        return {key: (value, timestamp) for key, value, timestamp in self.tables[name].store.scan()}

    def dropped(self, **labels: str) -> int:
        return self.metrics.total("dropped_records_total", **labels)


def rows_of(batch: RecordBatch) -> list[tuple[Any, ...]]:
    columns = [batch.keys, batch.values, batch.timestamps]
    if isinstance(batch, ChangeBatch) and batch.olds is not None:
        columns.append(batch.olds)
    lengths = {len(column) for column in [*columns, batch.offsets or batch.keys, batch.headers or batch.keys]}
    assert len(lengths) == 1, f"columns of unequal length: {lengths}"
    return list(zip(*columns, strict=True))


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def skipping() -> Site:
    return Site(skip_errors=True)


@pytest.fixture(scope="session")
def new_site() -> type[Site]:
    """For tests that compare several runs, or make many."""
    return Site


@pytest.fixture(scope="session")
def spec() -> Callable[..., StoreSpec]:
    """Makes store descriptions: a key-value store in memory unless told otherwise."""
    return store_spec


@pytest.fixture(scope="session")
def records() -> Callable[..., RecordBatch]:
    """Makes a batch of (key, value, timestamp) rows with offsets from 100."""

    def make(*rows: tuple[Any, Any, int], headers: list[Any] | None = None) -> RecordBatch:
        keys, values, timestamps = map(list, zip(*rows, strict=True))
        return RecordBatch(keys, values, timestamps, list(range(100, 100 + len(rows))), headers)

    return make


@pytest.fixture(scope="session")
def changes() -> Callable[..., ChangeBatch]:
    """Makes a batch of (key, new, old, timestamp) updates."""

    def make(*rows: tuple[Any, Any, Any, int], olds: bool = True) -> ChangeBatch:
        keys, news, old_values, timestamps = map(list, zip(*rows, strict=True))
        return ChangeBatch(keys, news, timestamps, list(range(len(rows))), None, old_values if olds else None)

    return make
