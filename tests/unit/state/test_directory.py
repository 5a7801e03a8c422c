import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamlib.errors import StateDirLockedError, StateStoreError
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import RocksMemory

HOLD = """
import sys
from pathlib import Path
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import RocksMemory
directory = StateDirectory.open(Path(sys.argv[1]), "app", RocksMemory(1 << 23))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path, memory: RocksMemory):
    opened = StateDirectory.open(tmp_path / "state", "app", memory)
    yield opened
    opened.close()


def test_tasks_have_directories_of_their_own_when_engines_are_opened(directory: StateDirectory, tmp_path: Path) -> None:
    for task_id in ("1_10", "0_3"):
        engine = directory.open_engine(task_id, persistent=True)
        engine.close()
        assert (tmp_path / "state" / "app" / task_id / "CURRENT").exists()
        assert directory.task_path(task_id) == tmp_path / "state" / "app" / task_id
    directory.open_engine("0_4", persistent=False).close()
    assert directory.task_ids() == ["0_3", "1_10"]
    for path in (directory.path, directory.path.parent, directory.task_path("0_3")):
        assert path.stat().st_mode & 0o777 == 0o700


def test_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path, memory: RocksMemory) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StateDirLockedError, match=rf"used by another process \(pid {holder.pid}\): stop it, or"):
            StateDirectory.open(tmp_path, "app", memory)
        StateDirectory.open(tmp_path, "other-app", memory).close()
        holder.send_signal(signal.SIGKILL)
    StateDirectory.open(tmp_path, "app", memory).close()


def test_lock_is_free_when_the_directory_was_closed(tmp_path: Path, memory: RocksMemory) -> None:
    first = StateDirectory.open(tmp_path, "app", memory)
    with pytest.raises(StateDirLockedError, match=f"pid {os.getpid()}"):
        StateDirectory.open(tmp_path, "app", memory)
    first.close()
    first.close()
    StateDirectory.open(tmp_path, "app", memory).close()


@pytest.mark.parametrize("part", ["state", "state/app", "state/app/0_3"])
def test_directory_is_refused_when_everyone_may_write_to_it(tmp_path: Path, memory: RocksMemory, part: str) -> None:
    (tmp_path / part).mkdir(parents=True)
    (tmp_path / part).chmod(0o777)
    with pytest.raises(StateStoreError, match=f"{tmp_path / part} is writable for everyone: chmod 700 it"):
        open_task(tmp_path, memory)


@pytest.mark.parametrize("part", ["state", "state/app", "state/app/0_3"])
def test_directory_is_refused_when_it_is_a_link(tmp_path: Path, memory: RocksMemory, part: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateStoreError, match=f"{tmp_path / part} is a symbolic link: name the real directory"):
        open_task(tmp_path, memory)


def test_directory_is_refused_when_a_file_is_in_its_place(tmp_path: Path, memory: RocksMemory) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateStoreError, match=r"cannot make the state directory|is no directory"):
        open_task(tmp_path, memory)


def open_task(tmp_path: Path, memory: RocksMemory) -> None:
    directory = StateDirectory.open(tmp_path / "state", "app", memory)
    try:
        directory.open_engine("0_3", persistent=True)
    finally:
        directory.close()


@pytest.mark.parametrize("application_id", ["", ".", "..", "a/b", "../a", "a b"])
def test_application_id_is_refused_when_it_cannot_be_a_name(
    tmp_path: Path, memory: RocksMemory, application_id: str
) -> None:
    with pytest.raises(StateStoreError, match="cannot name a directory"):
        StateDirectory.open(tmp_path, application_id, memory)


@pytest.mark.parametrize("task_id", ["", "..", "0_3/..", "0_", "lock", "0_3\n"])
def test_task_id_is_refused_when_it_is_none(directory: StateDirectory, task_id: str) -> None:
    with pytest.raises(StateStoreError, match="is no task id"):
        directory.task_path(task_id)


def test_unowned_tasks_are_removed_when_they_were_not_used_for_long(directory: StateDirectory) -> None:
    for number in range(3):
        directory.open_engine(f"0_{number}", persistent=True).close()
    (directory.path / "0_9.corrupt-1").mkdir()
    changed_ms = max(path.stat().st_mtime_ns for path in directory.path.rglob("*")) // 1_000_000
    assert directory.remove_unowned({"0_1"}, unused_since_ms=changed_ms - 60_000) == []
    assert directory.remove_unowned({"0_1"}, unused_since_ms=changed_ms + 1) == ["0_0", "0_2"]
    assert directory.task_ids() == ["0_1"]


def test_task_counts_as_used_when_only_its_log_was_written(directory: StateDirectory) -> None:
    path = directory.task_path("0_0")
    path.mkdir()
    (path / "000004.log").touch()
    os.utime(path, (1, 1))
    os.utime(path / "000004.log", (50, 50))
    assert directory.remove_unowned([], unused_since_ms=49_999) == []
    assert directory.remove_unowned([], unused_since_ms=50_000) == ["0_0"]
