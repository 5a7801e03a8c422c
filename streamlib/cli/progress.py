"""How restoring is shown: a progress bar on a terminal, log lines elsewhere. Next: `runtime/restore`, which reports."""

import sys
from typing import TYPE_CHECKING

from streamlib.record import TopicPartition
from streamlib.runtime.restore import LogRestoreListener, RestoreListener

if TYPE_CHECKING:
    from rich.progress import TaskID


class ProgressRestoreListener:
    """Bars for the changelogs that are being read; gone when all are complete."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("restoring {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            transient=True,
            console=Console(stderr=True),
        )
        self._bars: dict[TopicPartition, TaskID] = {}

    def started(self, tp: TopicPartition, store: str, start: int, end: int) -> None:
        """Add a bar."""
        self._progress.start()
        self._bars[tp] = self._progress.add_task(f"{store} [{tp.partition}]", total=end - start)

    def progressed(self, tp: TopicPartition, records: int) -> None:
        """Move it."""
        if tp in self._bars:
            self._progress.advance(self._bars[tp], records)

    def finished(self, tp: TopicPartition) -> None:
        """Take it away."""
        if (bar := self._bars.pop(tp, None)) is not None:
            self._progress.remove_task(bar)
        if not self._bars:
            self._progress.stop()


def restore_listener() -> RestoreListener:
    """Bars when stderr is a terminal, else log lines."""
    return ProgressRestoreListener() if sys.stderr.isatty() else LogRestoreListener()
