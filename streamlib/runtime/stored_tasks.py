"""What a worker has on disk of tasks that are not open: how much, for the group's leader, and for how long.

Looked up once, when the worker starts, since the offsets lie inside the engines; later whoever closes a task tells.
The directories of tasks that have not been open for a while are deleted.

Source: StateDirectory.cleanRemovedTasks. Next: `assignor`.
"""

import logging
from collections.abc import Collection

from streamlib.clock import Clock
from streamlib.errors import StateStoreError
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.task_stores import TaskStores
from streamlib.state.directory import StateDirectory
from streamlib.topology.topology import Topology

log = logging.getLogger(__name__)

CLEAN_UP_SECONDS = 60.0


class StoredTasks:
    """The state directory's tasks; made by `look`.

    Args:
        directory: Where they are.
        clock: Time.
        clean_up_delay_ms: How long what is not used stays.
    """

    def __init__(self, directory: StateDirectory, clock: Clock, clean_up_delay_ms: int) -> None:
        self._directory = directory
        self._clock = clock
        self._clean_up_delay_ms = clean_up_delay_ms
        self._looked = clock.monotonic()
        self._offsets: dict[TaskId, int] = {}

    @classmethod
    async def look(
        cls, directory: StateDirectory, clock: Clock, clean_up_delay_ms: int, topology: Topology
    ) -> "StoredTasks":
        """All tasks of the topology, with their offsets; none may be open."""
        stored = cls(directory, clock, clean_up_delay_ms)
        numbers = {each.number for each in topology.subtopologies if each.stores}
        for text in directory.task_ids():
            task_id = TaskId.parse(text)
            if task_id.subtopology not in numbers:
                continue
            try:
                engine = directory.open_engine(text, persistent=True)
            except StateStoreError as error:
                log.warning("what is left of task %s is not counted: %s", text, error)
                continue
            stored._offsets[task_id] = sum(engine.offsets().values())
            engine.close()
            await clock.sleep(0)
        return stored

    def keep(self, task_id: TaskId, stores: TaskStores) -> None:
        """A task is about to be closed: this is how much is left of it."""
        self._offsets[task_id] = stores.held

    def offsets(self) -> dict[TaskId, int]:
        """For each task on disk, the sum of the offsets up to which it holds the changelogs."""
        on_disk = {TaskId.parse(text) for text in self._directory.task_ids()}
        return {task_id: offsets for task_id, offsets in self._offsets.items() if task_id in on_disk}

    def clean_up(self, used: Collection[TaskId]) -> None:
        """Delete what was not used for long; does something once in a minute."""
        if self._clock.monotonic() - self._looked < CLEAN_UP_SECONDS:
            return
        self._looked = self._clock.monotonic()
        since_ms = self._clock.time_ms() - self._clean_up_delay_ms
        removed = self._directory.remove_unowned({str(task_id) for task_id in used}, since_ms)
        for text in removed:
            self._offsets.pop(TaskId.parse(text), None)
        if removed:
            log.info("deleted the state of tasks that others run: %s", ", ".join(removed))
