"""Which worker runs which task: balanced within one, sticky, state-aware, all partitions of a task together.

Workers with different topologies in one group never mix: number 1_3 may mean another thing to each. The version that
runs most tasks goes on, and the workers of other versions wait without tasks until it has gone; so new workers may be
started one by one while old ones are stopped. Next: `placement`, which decides; `task_manager`, which turns partitions
into tasks again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from streamlib.record import TopicPartition
from streamlib.runtime.assignment_codec import (
    DecisionData,
    SubscriptionData,
    SubtopologyData,
    TaskData,
    decode_decision,
    decode_subscription,
    encode_decision,
    encode_subscription,
)
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.placement import Candidate, Placement, PlacementOptions, place
from streamlib.transport.base import Member

log = logging.getLogger(__name__)

OWNED = ("running", "restoring")


class TaskAssignor:
    """Assigns tasks to the members of a group; implements `transport.base.Assignor`. One instance per worker.

    Args:
        describe: What this member tells the leader at each join.
        options: What it goes by when it is the leader.
        decided: Called with what the leader told this member, before its partitions are assigned.
    """

    name = "streamlib"

    def __init__(
        self,
        describe: Callable[[], SubscriptionData],
        options: PlacementOptions | None = None,
        decided: Callable[[DecisionData], None] | None = None,
    ) -> None:
        self._decided = decided
        self._describe = describe
        self._options = options or PlacementOptions()
        self._joins = 0
        self._waits = False

    def subscription(self) -> bytes:
        """User data to send with each join of this member."""
        self._joins += 1
        return encode_subscription(replace(self._describe(), joins=self._joins))

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        """For each member its partitions, those of its tasks, sorted; and what else it is to do."""
        told = {member: decode_subscription(member, members[member].user_data) for member in sorted(members)}
        running = prevailing(told.values())
        workers = {member: data for member, data in told.items() if data.fingerprint == running}
        subtopologies = agreed(list(workers.values()))
        reads = {task: tps for each in subtopologies for task, tps in tasks_of(each).items()}
        placement = self._place(reads.keys(), subtopologies, workers)
        processes = sorted({data.process_id for data in told.values() if data.process_id})
        prober = next(iter(placement.actives)) if placement.moves else None
        if placement.moves:
            moves = ", ".join(f"{task} to {member}" for task, member in sorted(placement.moves.items()))
            log.info("tasks that are to move once their state is there: %s", moves)
        return {
            member: (
                sorted(
                    tp for task in placement.actives.get(member, ()) for tp in reads[task] if tp.topic in partitions
                ),
                encode_decision(
                    DecisionData(
                        running,
                        [*placement.standbys.get(member, ())],
                        [*placement.warm_ups.get(member, ())],
                        member == prober,
                        processes,
                    )
                ),
            )
            for member in told
        }

    def _place(
        self,
        tasks: Collection[TaskId],
        subtopologies: Collection[SubtopologyData],
        workers: Mapping[str, SubscriptionData],
    ) -> Placement:
        stateful = {each.number for each in subtopologies if each.stateful}
        logged = {each.number for each in subtopologies if each.logged}
        return place(
            sorted(tasks, key=lambda task: (task.partition, task.subtopology)),  # each sub-topology is spread
            {task for task in tasks if task.subtopology in stateful},
            {task for task in tasks if task.subtopology in logged},
            {member: candidate(data) for member, data in workers.items()},
            self._options,
        )

    def assigned(self, partitions: Collection[TopicPartition], user_data: bytes) -> None:
        """Hand the decision on; say so when this worker has to wait for those of another version."""
        decision = decode_decision(user_data)
        if self._decided is not None:
            self._decided(decision)
        waits = decision.fingerprint != self._describe().fingerprint
        if waits:
            log.warning(
                "this worker has another topology than those that run the application's tasks: it waits without tasks "
                "until they have stopped. Stop them if this is the new version, or stop this one if it is a mistake"
            )
        elif self._waits:
            log.warning("the workers with another topology have gone: this version takes over")
        self._waits = waits


def prevailing(told: Collection[SubscriptionData]) -> str:
    """The fingerprint of the topology that runs: the one with most tasks, then with most members."""
    tasks = Counter[str]()
    members = Counter[str]()
    for data in told:
        tasks[data.fingerprint] += sum(task.role in OWNED for task in data.tasks)
        members[data.fingerprint] += 1
    return max(members, key=lambda fingerprint: (tasks[fingerprint], members[fingerprint], fingerprint))


def agreed(told: Sequence[SubscriptionData]) -> list[SubtopologyData]:
    """The sub-topologies, with the topics that all workers know: where patterns are read, some may know more."""
    known = set[str].intersection(*({topic for each in data.subtopologies for topic in each.topics} for data in told))
    return [
        replace(each, topics={topic: count for topic, count in each.topics.items() if topic in known})
        for each in told[0].subtopologies
    ]


def tasks_of(subtopology: SubtopologyData) -> dict[TaskId, list[TopicPartition]]:
    """The tasks of a sub-topology with what they read: their partition of every topic that is wide enough."""
    topics = subtopology.topics
    return {
        TaskId(subtopology.number, partition): [
            TopicPartition(topic, partition) for topic, count in topics.items() if partition < count
        ]
        for partition in range(max(topics.values(), default=0))
    }


def candidate(data: SubscriptionData) -> Candidate:
    """A member as the placement sees it."""

    def in_role(*roles: str) -> frozenset[TaskId]:
        return frozenset(task_id(task) for task in data.tasks if task.role in roles)

    return Candidate(
        data.process_id,
        in_role(*OWNED),
        in_role("running"),
        in_role("standby"),
        in_role("warm_up"),
        {task_id(task): task.offsets for task in data.tasks},
        data.tags,
    )


def task_id(data: TaskData) -> TaskId:
    """Which task it is."""
    return TaskId(data.subtopology, data.partition)
