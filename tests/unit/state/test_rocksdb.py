import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from streamlib.errors import StateCorruptedError, StateDirLockedError, StateStoreError
from streamlib.state.rocksdb import CHUNK_BYTES, CHUNK_ROWS, SORTED_ROWS, RocksEngine, RocksMemory, set_aside

OpenRocks = Callable[[], RocksEngine]


def numbered(count: int, value: bytes = b"v") -> dict[bytes, bytes | None]:
    return {number.to_bytes(4, "big"): value for number in range(count)}


def flip_bytes(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    first = int(len(data) * at)
    for position in range(first, min(first + 8, len(data))):
        data[position] ^= 0xFF
    path.write_bytes(data)


def files(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern), key=lambda path: path.stat().st_size)


def test_everything_is_there_when_opened_again(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("counts")
    engine.create("counts/60000/3")
    engine.write({"counts": {b"k": b"1"}, "counts/60000/3": {b"w": b"2"}}, {"counts": 11})
    engine = open_rocks()
    assert sorted(engine.tables()) == ["counts", "counts/60000/3"]
    assert engine.get("counts", b"k") == b"1"
    assert engine.get("counts/60000/3", b"w") == b"2"
    assert engine.offsets() == {"counts": 11}
    engine.drop("counts")
    assert open_rocks().tables() == ["counts/60000/3"]


def test_synced_rows_are_in_the_log_when_the_engine_was_not_closed(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.write({"t": {b"needle in the log": b"v"}}, {})
    engine.sync()
    assert any(b"needle in the log" in log.read_bytes() for log in engine.path.glob("*.log"))


def test_chunks_hold_a_bounded_number_of_rows_when_the_batch_is_large(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    for table in ("a", "b", "c"):
        engine.create(table)
    chunks = list(engine.write_chunks({"a": numbered(100), "b": numbered(2 * CHUNK_ROWS), "c": numbered(5)}, {"s": 1}))
    assert sum(chunks) == 2 * CHUNK_ROWS + 105
    assert max(chunks) <= CHUNK_ROWS
    assert len(list(engine.write_chunks({"a": numbered(CHUNK_ROWS)}, {"s": 2}))) == 1


def test_every_row_is_written_or_deleted_when_there_are_more_than_are_sorted_at_once(open_rocks: OpenRocks) -> None:
    engine, count = open_rocks(), SORTED_ROWS + CHUNK_ROWS // 2
    engine.create("t")
    engine.write({"t": numbered(count, b"old")}, {})
    writes = {key: None if key[-1] % 2 else b"new" for key in reversed(numbered(count))}
    assert max(engine.write_chunks({"t": writes}, {"s": 1})) <= CHUNK_ROWS
    assert list(engine.scan("t", None, None)) == [(key, row) for key, row in sorted(writes.items()) if row is not None]


def test_chunks_hold_a_bounded_number_of_bytes_when_rows_are_large(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    row_bytes = 20_000
    chunks = list(engine.write_chunks({"t": numbered(1000, bytes(row_bytes))}, {}))
    assert max(chunks) * row_bytes < 3 * CHUNK_BYTES
    assert len(list(engine.scan("t", None, None))) == 1000


def test_engine_can_be_opened_again_when_a_scan_was_left_open(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.write({"t": numbered(1000)}, {})
    scan = engine.scan("t", None, None)
    unread = engine.scan("t", None, None)
    next(scan)
    again = open_rocks()
    assert again.get("t", bytes(4)) == b"v"
    for closed in (scan, unread):
        with pytest.raises(StateStoreError, match='was closed while table "t"'):
            list(closed)


def test_use_is_refused_when_the_engine_was_closed(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.close()
    with pytest.raises(StateStoreError, match="closed"):
        engine.get("t", b"k")
    with pytest.raises(StateStoreError):
        engine.write({}, {"s": 1})


def test_directory_is_gone_when_the_engine_was_destroyed(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.destroy()
    assert not engine.path.exists()
    assert open_rocks().tables() == []


def test_disk_space_comes_back_when_a_table_is_dropped(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.write({"t": {key: random.Random(key).randbytes(1000) for key in numbered(8000)}}, {})
    engine = open_rocks()
    assert sum(path.stat().st_size for path in engine.path.glob("*.sst")) > 7_000_000
    engine.drop("t")
    engine = open_rocks()
    assert sum(path.stat().st_size for path in engine.path.glob("*.sst")) < 100_000


def test_directory_is_private_when_it_is_made(open_rocks: OpenRocks) -> None:
    assert open_rocks().path.stat().st_mode & 0o077 == 0


# --- damage


@pytest.fixture
def damaged(open_rocks: OpenRocks) -> Path:
    """A closed database with 20,000 rows in sorted files, to be damaged."""
    engine = open_rocks()
    engine.create("t")
    engine.write({"t": {key: os.urandom(20) for key in numbered(20_000)}}, {"s": 20_000})
    engine.close()
    assert files(engine.path, "*.sst")
    return engine.path


@pytest.mark.parametrize(("pattern", "at"), [("MANIFEST-*", 0.5), ("CURRENT", 0.0), ("*.sst", 0.99999)])
def test_corruption_is_told_at_open_when_bytes_are_flipped(
    damaged: Path, memory: RocksMemory, pattern: str, at: float
) -> None:
    flip_bytes(files(damaged, pattern)[-1], at)
    with pytest.raises(StateCorruptedError, match="whose files are damaged"):  # noqa: PT012 - a footer is read at first use
        engine = RocksEngine.open(damaged, memory)
        try:
            engine.get("t", bytes(4))
        finally:
            engine.close()
    (damaged / "LOCK").unlink()


def test_corruption_is_told_at_open_when_files_are_missing(damaged: Path, memory: RocksMemory) -> None:
    (damaged / "CURRENT").unlink()
    with pytest.raises(StateCorruptedError, match="no CURRENT file"):
        RocksEngine.open(damaged, memory)


def test_corruption_is_told_when_damaged_rows_are_read(damaged: Path, open_rocks: OpenRocks) -> None:
    flip_bytes(files(damaged, "*.sst")[-1], 0.5)
    engine = open_rocks()
    with pytest.raises(StateCorruptedError, match='read table "t"'):
        engine.get_many("t", list(numbered(20_000)))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_not_cut_short_silently_when_it_meets_damage(
    damaged: Path, open_rocks: OpenRocks, reverse: bool
) -> None:
    flip_bytes(files(damaged, "*.sst")[-1], 0.5)
    engine = open_rocks()
    with pytest.raises(StateCorruptedError, match='scan table "t"'):
        list(engine.scan("t", None, None, reverse=reverse))
    first_rows = engine.scan("t", bytes(4), (100).to_bytes(4, "big"))
    assert len(list(first_rows)) == 100


def test_directory_can_be_rebuilt_when_the_damaged_one_was_set_aside(damaged: Path, open_rocks: OpenRocks) -> None:
    flip_bytes(files(damaged, "MANIFEST-*")[-1], 0.5)
    aside = set_aside(damaged)
    assert aside.parent == damaged.parent
    assert aside.name.startswith("0_0.corrupt-")
    assert files(aside, "*.sst")
    engine = open_rocks()
    assert (engine.tables(), engine.offsets()) == ([], {})


def test_only_the_last_damaged_directory_is_kept_when_it_happens_again(tmp_path: Path) -> None:
    asides = []
    for round_number in (1, 2, 3):
        path = tmp_path / "0_0"
        path.mkdir()
        os.utime(path, (round_number, round_number))
        asides.append(set_aside(path))
    assert [path.name for path in asides] == [f"0_0.corrupt-{number}000" for number in (1, 2, 3)]
    assert list(tmp_path.iterdir()) == asides[-1:]


def test_format_is_refused_when_it_is_from_another_version(open_rocks: OpenRocks, memory: RocksMemory) -> None:
    path = open_rocks().path
    open_rocks().close()
    database = Rdict(str(path), Options(raw_mode=True))
    database.put(b"format", b"\x09")
    database.close()
    for _ in range(2):  # the refusal lets the lock go
        with pytest.raises(StateStoreError, match="has format 9, this version of streamlib reads 2"):
            RocksEngine.open(path, memory)


def test_database_is_refused_when_it_lost_its_format(open_rocks: OpenRocks, memory: RocksMemory) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.close()
    database = Rdict(str(engine.path), Options(raw_mode=True))
    database.delete(b"format")
    database.close()
    with pytest.raises(StateCorruptedError, match="no format version"):
        RocksEngine.open(engine.path, memory)


# --- other processes


def test_lock_is_told_when_the_same_process_has_the_directory(open_rocks: OpenRocks, memory: RocksMemory) -> None:
    engine = open_rocks()
    with pytest.raises(StateDirLockedError, match=f"{engine.path}: it is open already"):
        RocksEngine.open(engine.path, memory)


def run_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
import sys
from pathlib import Path
from streamlib.state.rocksdb import RocksEngine, RocksMemory
engine = RocksEngine.open(Path(sys.argv[1]), RocksMemory(1 << 23))
print("open", flush=True)
sys.stdin.read()
"""


def test_lock_is_told_when_another_process_has_the_directory(tmp_path: Path, memory: RocksMemory) -> None:
    path = tmp_path / "0_0"
    with run_python(HOLD, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StateDirLockedError, match=f"cannot open the state in {path}"):
            RocksEngine.open(path, memory)
        holder.kill()
    RocksEngine.open(path, memory).close()


WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from streamlib.state.rocksdb import RocksEngine, RocksMemory
engine = RocksEngine.open(Path(sys.argv[1]), RocksMemory(1 << 23))
engine.create("a")
engine.create("b")
for number in itertools.count(1):
    row = number.to_bytes(8, "big")
    rows = {key.to_bytes(4, "big"): row for key in range(50)}
    engine.write({"a": rows, "b": {**rows, row: row}}, {"s": number})
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 40, 700])
def test_rows_and_offset_agree_when_the_process_is_killed(open_rocks: OpenRocks, acknowledged: int) -> None:
    path = open_rocks().path
    open_rocks().close()
    with run_python(WRITE_FOREVER, path) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == acknowledged:
                writer.send_signal(signal.SIGKILL)
                break
    assert writer.returncode == -signal.SIGKILL
    engine = open_rocks()
    offset = engine.offsets()["s"]
    assert offset >= acknowledged
    assert {row for _, row in engine.scan("a", None, None)} == {offset.to_bytes(8, "big")}
    assert len(list(engine.scan("b", None, None))) == 50 + offset
    assert engine.get("b", offset.to_bytes(8, "big")) is not None


DIE_BETWEEN_CHUNKS = """
import os, signal, sys
from pathlib import Path
from streamlib.state.rocksdb import RocksEngine, RocksMemory
engine = RocksEngine.open(Path(sys.argv[1]), RocksMemory(1 << 23))
for number, _ in enumerate(engine.write_chunks({"t": {k.to_bytes(4, "big"): b"new" for k in range(35_000)}}, {"s": 2})):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_offset_is_the_old_one_when_the_process_is_killed_between_chunks(open_rocks: OpenRocks) -> None:
    engine = open_rocks()
    engine.create("t")
    engine.write({"t": numbered(35_000, b"old")}, {"s": 1})
    engine.close()
    with run_python(DIE_BETWEEN_CHUNKS, engine.path) as writer:
        assert writer.wait() == -signal.SIGKILL
    engine = open_rocks()
    assert engine.offsets() == {"s": 1}
    assert {row for _, row in engine.scan("t", None, None)} == {b"old", b"new"}
    engine.write({"t": numbered(35_000, b"new")}, {"s": 2})  # what a restore does
    assert {row for _, row in engine.scan("t", None, None)} == {b"new"}


FILL_DISK = """
import os, sys
from pathlib import Path
from streamlib.errors import StateStoreError
from streamlib.state.rocksdb import RocksEngine, RocksMemory
path, memory = Path(sys.argv[1]) / "0_0", RocksMemory(1 << 23)
engine = RocksEngine.open(path, memory)
engine.create("t")
good = 0
try:
    while True:
        number = (good + 1).to_bytes(4, "big")
        engine.write({"t": {number: os.urandom(50_000)}}, {"s": good + 1})
        good += 1
except StateStoreError as error:
    print(type(error).__name__, error)
engine.close()
Path(sys.argv[1], "ballast").unlink()
engine = RocksEngine.open(path, memory)
print(good > 10, engine.offsets()["s"] == good, sum(1 for _ in engine.scan("t", None, None)) == good)
engine.write({"t": {b"more": b"v"}}, {"s": good + 1})
"""


@pytest.mark.slow
def test_disk_full_is_told_with_its_mend_when_a_write_fails(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=12m tmpfs "$1" && head -c 5000000 /dev/zero > "$1/ballast" || exit 99'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount}; exec "$2" -c "$3" "$1"', "sh", tmp_path, sys.executable, FILL_DISK],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("this system gives its users no mounts of their own")
    assert done.returncode == 0, done.stderr
    message, after = done.stdout.splitlines()
    assert message.startswith("DiskFullError cannot write 2 rows in")
    assert "the disk is full; free some space, nothing that was committed is lost" in message
    assert after == "True True True"


# --- memory


def test_memory_settles_in_its_budget_when_several_engines_share_it(tmp_path: Path) -> None:
    budget_bytes = 8 * 1024 * 1024
    shared = RocksMemory(budget_bytes)
    engines = [RocksEngine.open(tmp_path / f"0_{number}", shared) for number in range(3)]
    for engine in engines:
        engine.create("t")
        for batch in range(12):
            engine.write({"t": {batch.to_bytes(2, "big") + key: os.urandom(1000) for key in numbered(500)}}, {})
    for engine in engines:
        assert len(list(engine.scan("t", None, None))) == 6000
    deadline = time.monotonic() + 30
    limit_bytes = budget_bytes * 1.1  # the cache is divided into shards, which are not equally full
    while shared.used_bytes > limit_bytes and time.monotonic() < deadline:
        time.sleep(0.01)  # memtables are flushed in the background
    assert budget_bytes // 2 < shared.used_bytes <= limit_bytes
    for engine in engines:
        engine.close()
