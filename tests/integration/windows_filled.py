"""Fills a windowed store with rows, lets them expire, and prints what that took as JSON: ``python ... FOLDER ROWS``.

A real task on RocksDB, with the default settings; what it writes to topics is thrown away. `test_state_memory` runs it.
"""

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from streamlib import StreamsBuilder, StreamsConfig, TimeWindows, Topology, serdes
from streamlib.clock import SystemClock
from streamlib.metrics import Metrics
from streamlib.record import FetchedBatch, Headers, TopicPartition
from streamlib.runtime.offset_metadata import Position
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.record_collector import RecordCollector
from streamlib.runtime.record_errors import RecordErrors
from streamlib.runtime.task import Task
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_state import TaskState
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import RocksMemory

INPUT = TopicPartition("in", 0)
KEYS = 100_000
WINDOW_MS = 60_000
BATCH_ROWS = 10_000
COMMIT_ROWS = 100_000
FLUSHED_ROWS = 5_000


class Nowhere:
    """A producer that forgets what it is given."""

    @property
    def current(self) -> "Nowhere":
        return self

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        pass


def peak_rss_bytes() -> int:
    """The most memory this process has held. The system's ``ru_maxrss`` also counts the one that started it."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def counting() -> Topology:
    builder = StreamsBuilder("filled")
    windows = TimeWindows.of(timedelta(milliseconds=WINDOW_MS), grace=timedelta(days=1))
    stream = builder.stream("in", serdes.STRING, serdes.BYTES)
    stream.group_by_key().windowed_by(windows).count(store="counts").to_stream().to("out")
    return builder.build()


def started(config: StreamsConfig, directory: StateDirectory) -> Task:
    counts, metrics = {"in": 1, "out": 1}, Metrics()
    topology = counting()
    collector = RecordCollector(Nowhere(), counts, lambda topic: topic, metrics)
    clock = SystemClock()
    errors = RecordErrors(config, topology.nodes, collector, metrics, clock)
    caches = CacheMemory(config.statestore_cache_max_bytes)
    factory = TaskFactory(topology, config, counts, directory, collector, Nowhere(), metrics, {}, clock, errors, caches)
    task = factory.create(TaskId(0, 0), config.statestore_cache_max_bytes)
    task.transition(TaskState.RESTORING)
    task.start({INPUT: Position(0)})
    task.transition(TaskState.RUNNING)
    return task


def take(task: Task, keys: list[bytes | None], time: int, offset: int) -> None:
    count = len(keys)
    offsets = list(range(offset, offset + count))
    task.add(INPUT, FetchedBatch(keys, [b""] * count, [time] * count, offsets, None, offset + count))
    while task.buffered:
        task.process(BATCH_ROWS)


def commit(task: Task) -> None:
    while task.flush(FLUSHED_ROWS):
        pass
    task.stores.acknowledged(dict.fromkeys(task.stores.changelogs.values(), 1))
    task.committed()
    for _ in task.stores.apply():
        pass


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.sst"))


def main(folder: Path, rows: int) -> None:
    config = StreamsConfig("filled", state_dir=folder)
    directory = StateDirectory.open(folder, "filled", RocksMemory(config.state_memory_bytes))
    task = started(config, directory)
    for first in range(0, rows, BATCH_ROWS):
        keys: list[bytes | None] = [b"user-%06d" % (row % KEYS) for row in range(first, first + BATCH_ROWS)]
        take(task, keys, first // KEYS * WINDOW_MS, first)
        if (first + BATCH_ROWS) % COMMIT_ROWS == 0:
            commit(task)
    full = disk_bytes(folder)
    windows = list(task.tables["counts"].store.scan(b"user-000042", b"user-000043"))
    for day in (3, 6):  # the first makes all others expire, the second itself
        take(task, [b"late"], day * 86_400_000, rows)
        commit(task)
    task.close()
    directory.close()
    found = {
        "peak_rss": peak_rss_bytes(),
        "full": full,
        "windows_of_one_key": len(windows),
        "after": disk_bytes(folder),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
