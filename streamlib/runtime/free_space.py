"""Room on the file system of the state directory: looked for before anything is written there, and every few seconds.

While there is too little a worker reads nothing: no inputs, no changelogs. It keeps its tasks and its place in the
group, commits what it has, and goes on by itself when there is room again. A full disk loses nothing either: RocksDB
refuses the write and every one after it, and the worker opens its stores again until there is room.

Next: `state/rocksdb`, which writes there.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from streamlib.clock import Clock
from streamlib.errors import StateStoreError
from streamlib.metrics import Metrics
from streamlib.runtime.rarely import Rarely

log = logging.getLogger(__name__)

SECONDS = 2.0
WARNS_BELOW = 2.0
GOES_ON_ABOVE = 1.25  # of the limit: else compaction alone could stop and start a worker all the time
MIB = 1024 * 1024


def free_bytes(path: Path) -> int:
    """The room on a file system."""
    return shutil.disk_usage(path).free


class FreeSpace:
    """Watches it beside a worker.

    Args:
        path: The state directory.
        least_bytes: Below it a worker does not start, and a running one reads nothing; below twice that much it warns.
            0: never.
        clock: Time.
        metrics: Knows how much there is.
        read: Tells how much there is; None asks the operating system.

    Attributes:
        low: Whether there is too little to go on.
        free: How much there was, when last looked.
    """

    def __init__(
        self,
        path: Path,
        least_bytes: int,
        clock: Clock,
        metrics: Metrics,
        read: Callable[[Path], int] | None = None,
    ) -> None:
        self.low = False
        self.free = 0
        self._path = path
        self._least_bytes = least_bytes
        self._clock = clock
        self._metrics = metrics
        self._read = read or free_bytes
        self._rarely = Rarely(clock)

    def check(self) -> None:
        """Look before the start.

        Raises:
            StateStoreError: There is too little.
        """
        if self._least_bytes and self._look() < self._least_bytes:
            msg = (
                f"{self.told()}, and a worker needs state_min_free_bytes={self._least_bytes} to start: free some "
                "space, or give it another state_dir"
            )
            raise StateStoreError(msg)

    async def follow(self) -> None:
        """Look, and warn, until cancelled."""
        while self._least_bytes:
            self._decide(self._look())
            await self._clock.sleep(SECONDS)

    async def enough(self) -> None:
        """Return when there is enough to go on."""
        while self.low:
            await self._clock.sleep(SECONDS)

    def told(self) -> str:
        """How much there is, for messages."""
        return f"the file system of the state directory {self._path} has {self.free // MIB} MiB free"

    def _look(self) -> int:
        self.free = self._read(self._path)
        self._metrics.gauge("state_dir_free_bytes", self.free)
        return self.free

    def _decide(self, free: int) -> None:
        if self.low and free >= GOES_ON_ABOVE * self._least_bytes:
            self.low = False
            log.info("%s: reading goes on", self.told())
        elif not self.low and free < self._least_bytes:
            self.low = True
            log.error(
                "%s, and state_min_free_bytes=%d: nothing is read until some space is freed",
                *(self.told(), self._least_bytes),
            )
        elif not self.low and free < WARNS_BELOW * self._least_bytes and self._rarely.now():
            log.warning("%s: free some space before it is too little and nothing is read any more", self.told())
