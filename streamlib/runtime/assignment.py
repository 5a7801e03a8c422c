"""What the group gave this worker, as tasks. Next: `worker`, which makes and closes them."""

from collections.abc import Collection
from dataclasses import dataclass

from streamlib.record import TopicPartition
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.task_factory import TaskFactory
from streamlib.transport.base import GroupMetadata


@dataclass(frozen=True)
class Assignment:
    """Tasks of one generation of the group.

    Attributes:
        tasks: The tasks whose partitions were assigned.
        group: The worker's place in the group at that moment.
    """

    tasks: frozenset[TaskId]
    group: GroupMetadata

    @classmethod
    def of(cls, partitions: Collection[TopicPartition], factory: TaskFactory, group: GroupMetadata) -> "Assignment":
        """The tasks that read ``partitions``."""
        by_topic = factory.subtopology_of_topic()
        return cls(frozenset(TaskId(by_topic[tp.topic], tp.partition) for tp in partitions), group)
