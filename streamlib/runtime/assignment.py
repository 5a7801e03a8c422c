"""What the group gave this worker, as tasks. Next: `task_manager`, which makes and closes them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from streamlib.record import TopicPartition
from streamlib.runtime.assignment_codec import DecisionData
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.task_factory import TaskFactory
from streamlib.transport.base import GroupMetadata


@dataclass(frozen=True)
class Assignment:
    """Tasks of one generation of the group.

    Attributes:
        tasks: The tasks whose partitions were assigned, with these.
        group: The worker's place in the group at that moment.
        copies: Tasks of other workers to keep copies of.
        warm_ups: Those of them that are to run here once they are complete.
        probe: Whether to ask for another rebalance after a while.
        processes: Of all workers of the group.
    """

    tasks: Mapping[TaskId, frozenset[TopicPartition]]
    group: GroupMetadata
    copies: frozenset[TaskId] = frozenset()
    warm_ups: frozenset[TaskId] = frozenset()
    probe: bool = False
    processes: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        partitions: Collection[TopicPartition],
        factory: TaskFactory,
        group: GroupMetadata,
        decision: DecisionData,
    ) -> "Assignment":
        """The tasks that read ``partitions``, and what else the leader has decided."""
        by_topic = factory.subtopology_of_topic()
        tasks: dict[TaskId, frozenset[TopicPartition]] = {}
        for tp in partitions:
            if tp.topic not in by_topic:  # it has matched a pattern, and was deleted meanwhile: the group joins again
                continue
            task = TaskId(by_topic[tp.topic], tp.partition)
            tasks[task] = tasks.get(task, frozenset()) | {tp}
        warm_ups = frozenset(TaskId(*task) for task in decision.warm_ups)
        copies = warm_ups | {TaskId(*task) for task in decision.standbys}
        processes = frozenset(decision.processes)
        return cls(tasks, group, copies - tasks.keys(), warm_ups - tasks.keys(), decision.probe, processes)
