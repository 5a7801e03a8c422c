"""The process that started a worker: in one that was forked from it, its connections and files are not to be touched.

Both have the same sockets, so that each would take answers that are the other's, and the same files of RocksDB, whose
threads only one of them has. Next: `worker`.
"""

import os

from streamlib.errors import ForkedError


class Owner:
    """The process in which this was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this process is another one."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Go on in the process that started the worker.

        Raises:
            ForkedError: This is another one.
        """
        if self.forked:
            msg = (
                f"process {os.getpid()} was forked from process {self._pid} while a worker ran there, and must not use "
                "it: both would talk over the same connections. Start a worker of its own in the new process, or start "
                'that with multiprocessing.get_context("spawn"); process pools for functions of a worker are no problem'
            )
            raise ForkedError(msg)
