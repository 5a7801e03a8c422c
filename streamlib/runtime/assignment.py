"""What the group gave this worker, as tasks. Next: `worker`, which makes and closes them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from streamlib.record import TopicPartition
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.task_factory import TaskFactory
from streamlib.transport.base import GroupMetadata


@dataclass(frozen=True)
class Assignment:
    """Tasks of one generation of the group.

    Attributes:
        tasks: The tasks whose partitions were assigned, with these.
        group: The worker's place in the group at that moment.
    """

    tasks: Mapping[TaskId, frozenset[TopicPartition]]
    group: GroupMetadata

    @classmethod
    def of(cls, partitions: Collection[TopicPartition], factory: TaskFactory, group: GroupMetadata) -> "Assignment":
        """The tasks that read ``partitions``."""
        by_topic = factory.subtopology_of_topic()
        tasks: dict[TaskId, frozenset[TopicPartition]] = {}
        for tp in partitions:
            if tp.topic not in by_topic:  # it has matched a pattern, and was deleted meanwhile: the group joins again
                continue
            task = TaskId(by_topic[tp.topic], tp.partition)
            tasks[task] = tasks.get(task, frozenset()) | {tp}
        return cls(tasks, group)
