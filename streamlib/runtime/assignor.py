"""Which worker runs which task: balanced within one, sticky, all partitions of a task together.

A task stays where it runs; else it goes where its state is; else to the worker with the fewest tasks. Stateful tasks
are spread first, so that state is balanced as well.

Workers with different topologies in one group never mix: number 1_3 may mean another thing to each. The version that
runs most tasks goes on, and the workers of other versions wait without tasks until it has gone; so new workers may be
started one by one while old ones are stopped. Next: `worker`, which turns partitions into tasks again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from streamlib.record import TopicPartition
from streamlib.runtime.assignment_codec import (
    SubscriptionData,
    SubtopologyData,
    decode_decision,
    decode_subscription,
    encode_decision,
    encode_subscription,
)
from streamlib.runtime.partitions import TaskId
from streamlib.transport.base import Member

log = logging.getLogger(__name__)


class TaskAssignor:
    """Assigns tasks to the members of a group; implements `transport.base.Assignor`. One instance per worker.

    Args:
        describe: What this member tells the leader at each join.
    """

    name = "streamlib"

    def __init__(self, describe: Callable[[], SubscriptionData]) -> None:
        self._describe = describe
        self._waits = False

    def subscription(self) -> bytes:
        """User data to send with each join of this member."""
        return encode_subscription(self._describe())

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        """For each member its partitions: those of its tasks, sorted."""
        told = {member: decode_subscription(member, members[member].user_data) for member in sorted(members)}
        running = prevailing(told.values())
        workers = {member: data for member, data in told.items() if data.fingerprint == running}
        subtopologies = agreed(list(workers.values()))
        reads = {task: tps for each in subtopologies for task, tps in tasks_of(each).items()}
        stateful = {task for task in reads for each in subtopologies if each.stateful and each.number == task[0]}
        in_turn = sorted(reads, key=lambda task: (task.partition, task.subtopology))  # each sub-topology is spread
        tasks = assign_tasks(in_turn, stateful, workers)
        return {
            member: (
                sorted(tp for task in tasks.get(member, ()) for tp in reads[task] if tp.topic in partitions),
                encode_decision(running),
            )
            for member in told
        }

    def assigned(self, partitions: Collection[TopicPartition], user_data: bytes) -> None:
        """Say so when this worker has to wait for those of another version; the tasks follow from the partitions."""
        waits = decode_decision(user_data) != self._describe().fingerprint
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
        tasks[data.fingerprint] += len(data.tasks)
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


def assign_tasks(
    tasks: Sequence[TaskId], stateful: Collection[TaskId], members: Mapping[str, SubscriptionData]
) -> dict[str, list[TaskId]]:
    """Tasks of each member; pure, so that properties can be tested over random clusters.

    Balanced within one task overall, and within one among the stateful tasks.
    """
    assignment: dict[str, list[TaskId]] = {member: [] for member in sorted(members)}
    if not assignment:
        return assignment
    running = _owners(members, lambda data: data.tasks)
    stored = _owners(members, lambda data: data.stored_tasks)
    load: dict[str, int] = dict.fromkeys(assignment, 0)
    for group in ([task for task in tasks if task in stateful], [task for task in tasks if task not in stateful]):
        _spread(group, running, stored, assignment, load)
    return {member: sorted(mine) for member, mine in assignment.items()}


def _spread(
    group: Sequence[TaskId],
    running: Mapping[TaskId, list[str]],
    stored: Mapping[TaskId, list[str]],
    assignment: dict[str, list[TaskId]],
    load: dict[str, int],
) -> None:
    """Give out one group of tasks on top of ``load``, which is kept up to date."""
    capacity = _capacities(group, load, running, stored)
    left: list[TaskId] = []
    for preferred in (running, stored):
        left = []
        for task in group:
            owner = next((member for member in preferred.get(task, ()) if capacity[member] > 0), None)
            if owner is None:
                left.append(task)
                continue
            capacity[owner] -= 1
            assignment[owner].append(task)
            load[owner] += 1
        group = left
    for task in left:
        owner = max(capacity, key=lambda member: (capacity[member], -load[member]))
        capacity[owner] -= 1
        assignment[owner].append(task)
        load[owner] += 1


def _capacities(
    group: Sequence[TaskId],
    load: Mapping[str, int],
    running: Mapping[TaskId, list[str]],
    stored: Mapping[TaskId, list[str]],
) -> dict[str, int]:
    """How many of the group's tasks each member takes, so that total loads differ by at most one.

    Where the division leaves a choice, the extra ones go to members that run more of these tasks, then to those that
    have the state of more.
    """
    runs = dict.fromkeys(load, 0)
    holds = dict.fromkeys(load, 0)
    for task in group:
        for member in running.get(task, ()):
            runs[member] += 1
        for member in stored.get(task, ()):
            holds[member] += 1
    capacity = dict.fromkeys(load, 0)
    for _ in group:
        least = min(load, key=lambda m: (load[m] + capacity[m], capacity[m] - runs[m], capacity[m] - holds[m], m))
        capacity[least] += 1
    return capacity


def _owners(
    members: Mapping[str, SubscriptionData], tasks: Callable[[SubscriptionData], list[tuple[int, int]]]
) -> dict[TaskId, list[str]]:
    owners: dict[TaskId, list[str]] = {}
    for member, data in members.items():
        for number, partition in tasks(data):
            owners.setdefault(TaskId(number, partition), []).append(member)
    return owners
