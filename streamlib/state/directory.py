"""Where state lives: ``<state_dir>/<application id>/<task id>/``, private to its user and to one process.

Next: `rocksdb`, which fills a task's directory; `runtime/worker`, which opens engines when it is given tasks.
"""

import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from streamlib.errors import StateDirLockedError, StateStoreError
from streamlib.state.base import TaskEngine
from streamlib.state.logged import LoggedEngine, LogMemory
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine, RocksMemory

LOCK_FILE = ".lock"
PROCESS_FILE = "process.id"

GLOBAL = "global"
"""In place of a task id: the directory of the global tables."""

_TASK_ID = re.compile(r"\d+_\d+")
_APPLICATION_ID = re.compile(r"[A-Za-z0-9._-]+")


class StateDirectory:
    """The directory of one application on this machine, locked for this process; made by `open`."""

    def __init__(self, path: Path, memory: RocksMemory, lock: int) -> None:
        self.path = path
        self._memory = memory
        self._log_memory = LogMemory(memory.log_bytes)
        self._lock: int | None = lock

    @classmethod
    def open(cls, state_dir: Path, application_id: str, memory: RocksMemory) -> "StateDirectory":
        """The directory, made with mode 0700 unless it exists, and locked until `close` or the end of the process.

        Raises:
            StateDirLockedError: Another process has it; names its pid.
            StateStoreError: A directory is a symbolic link or writable for everyone, or the id cannot be its name.
        """
        if not _APPLICATION_ID.fullmatch(application_id) or application_id in {".", ".."}:
            msg = f"application id {application_id!r} cannot name a directory: use letters, digits, '.', '_' and '-'"
            raise StateStoreError(msg)
        path = state_dir / application_id
        for directory in (state_dir, path):
            _make_private(directory)
        return cls(path, memory, _lock(path))

    def process_id(self) -> str:
        """The name of whoever uses this directory, the same after a restart; made at the first call.

        Raises:
            StateStoreError: It cannot be written.
        """
        file = self.path / PROCESS_FILE
        try:
            if not file.exists():
                draft = self.path / f"{PROCESS_FILE}.new"
                draft.write_text(f"{uuid.uuid4()}\n")
                draft.chmod(0o600)
                draft.replace(file)
            return str(uuid.UUID(file.read_text().strip()))
        except OSError as error:
            msg = f"cannot keep this worker's process id in {file}: {error.strerror}"
            raise StateStoreError(msg) from error
        except ValueError as error:
            msg = f"{file} holds no process id: delete it, and the next start makes another one"
            raise StateStoreError(msg) from error

    def task_path(self, task_id: str) -> Path:
        """Where a task's persistent stores live, e.g. for task id ``0_3``; need not exist."""
        if task_id != GLOBAL and not _TASK_ID.fullmatch(task_id):
            msg = f"{task_id!r} is no task id; one looks like 0_3"
            raise StateStoreError(msg)
        return self.path / task_id

    def task_ids(self) -> list[str]:
        """Tasks that have a directory here, sorted."""
        return sorted(entry.name for entry in self.path.iterdir() if _TASK_ID.fullmatch(entry.name) and entry.is_dir())

    def open_engine(self, task_id: str, persistent: bool) -> TaskEngine:
        """The engine for a task's persistent stores, or for those in memory.

        Raises:
            StateCorruptedError: `rocksdb.set_aside` the `task_path`, and open it again.
            StateStoreError: As `RocksEngine.open`; or the task's directory is a symbolic link or writable for everyone.
        """
        if not persistent:
            return MemoryEngine()
        path = self.task_path(task_id)
        _make_private(path)
        engine = RocksEngine.open(path, self._memory)
        try:
            return LoggedEngine(engine, self._log_memory)
        except BaseException:
            engine.close()
            raise

    def remove_unowned(self, owned: Collection[str], unused_since_ms: int) -> list[str]:
        """Delete the directories of tasks that are not ``owned`` and did not change since; gives their ids.

        Args:
            owned: Ids of the tasks this worker has, standbys included.
            unused_since_ms: Keep what changed after this moment (ms since the epoch), since the task may come back.
        """
        removed = []
        for task_id in self.task_ids():
            path = self.task_path(task_id)
            if task_id not in owned and _last_change_ms(path) <= unused_since_ms:
                shutil.rmtree(path)
                removed.append(task_id)
        return removed

    def close(self) -> None:
        """Let other processes have the directory; engines must be closed before."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as error:
        msg = f"cannot make the state directory {path}: {error.strerror}; name one in state_dir that this user may make"
        raise StateStoreError(msg) from error
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no directory"
        msg = f"state directory {path} is {kind}: name the real directory in state_dir"
        raise StateStoreError(msg)
    if status.st_mode & stat.S_IWOTH:
        msg = f"state directory {path} is writable for everyone: chmod 700 it, or name another one in state_dir"
        raise StateStoreError(msg)


def _last_change_ms(path: Path) -> int:
    """A write to the log of a database changes the file, not its directory."""
    return max(entry.stat().st_mtime_ns for entry in (path, *path.iterdir())) // 1_000_000


def _lock(path: Path) -> int:
    """An open file that holds the lock: the system lets it go with the process, however it ends."""
    file = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 32).decode(errors="replace").strip() or "unknown"
        os.close(file)
        msg = (
            f"state directory {path} is used by another process (pid {holder}): stop it, or give this worker its own"
            " state_dir"
        )
        raise StateDirLockedError(msg) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file
