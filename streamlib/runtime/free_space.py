"""Room on the file system of the state directory: looked for before anything is written there, and from time to time.

A full disk loses nothing: RocksDB refuses the write, the worker stops, and what was not committed is done again. But a
worker that is told beforehand need not stop at all. Next: `state/rocksdb`, which writes there.
"""

import logging
import shutil
from pathlib import Path

from streamlib.clock import Clock
from streamlib.errors import StateStoreError
from streamlib.metrics import Metrics
from streamlib.runtime.rarely import Rarely

log = logging.getLogger(__name__)

SECONDS = 10.0
MIB = 1024 * 1024


class FreeSpace:
    """Watches it beside a worker.

    Args:
        path: The state directory.
        least_bytes: Below it a worker does not start; below twice that much a running one warns. 0: never.
        clock: Time.
        metrics: Knows how much there is.
    """

    def __init__(self, path: Path, least_bytes: int, clock: Clock, metrics: Metrics) -> None:
        self._path = path
        self._least_bytes = least_bytes
        self._clock = clock
        self._metrics = metrics
        self._rarely = Rarely(clock)

    def check(self) -> None:
        """Look before the start.

        Raises:
            StateStoreError: There is too little.
        """
        if self._least_bytes and (free := self._look()) < self._least_bytes:
            msg = (
                f"{self._told(free)}, and a worker needs state_min_free_bytes={self._least_bytes} to start: free some "
                "space, or give it another state_dir"
            )
            raise StateStoreError(msg)

    async def follow(self) -> None:
        """Look, and warn, until cancelled."""
        while self._least_bytes:
            free = self._look()
            if free < 2 * self._least_bytes and self._rarely.now():
                log.warning("%s: free some space before state cannot be written and the worker stops", self._told(free))
            await self._clock.sleep(SECONDS)

    def _look(self) -> int:
        free = shutil.disk_usage(self._path).free
        self._metrics.gauge("state_dir_free_bytes", free)
        return free

    def _told(self, free: int) -> str:
        return f"the file system of the state directory {self._path} has {free // MIB} MiB free"
