"""Who is the worker of a directory: a lock file with the process id in it, gone with the process however it ends."""

import fcntl
import json
import os
from pathlib import Path
from typing import IO

from streamlib.errors import BrokerLockedError

LOCK_FILE = "worker.lock"


class DirectoryLock:
    """An exclusive lock of ``directory`` for members of a group in this process.

    Several members of one process share it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / LOCK_FILE
        self._held: IO[str] | None = None
        self._members = 0

    def acquire(self, group_id: str) -> None:
        """Take the lock, or take it once more.

        Raises:
            BrokerLockedError: Another process has it.
        """
        if self._held is None:
            self._held = self._take(group_id)
        self._members += 1

    def release(self) -> None:
        """Give it back when its last member does."""
        self._members -= 1
        if self._members == 0 and self._held is not None:
            self._held.truncate(0)
            self._held.close()
            self._held = None

    def holder(self) -> tuple[str, str] | None:
        """Group and process id of another process that has the lock."""
        if self._held is not None or not self._path.exists():
            return None
        with self._path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                group_id, pid = _read_holder(file)
                return (group_id, pid) if group_id else None
        return None  # closing the file gave the shared lock back

    def _take(self, group_id: str) -> IO[str]:
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _, pid = _read_holder(file)
            file.close()
            msg = (
                f"{self._directory} already has a worker, process {pid}: a local broker serves one at a time. "
                "Stop that process, give this worker another directory, or use Kafka to scale out"
            )
            raise BrokerLockedError(msg) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "group": group_id}))
        file.flush()
        return file


def _read_holder(file: IO[str]) -> tuple[str, str]:
    file.seek(0)
    try:
        held = json.loads(file.read())
    except ValueError:
        # The holder is between taking the lock and writing its name.
        return "", "unknown"
    return str(held["group"]), str(held["pid"])
