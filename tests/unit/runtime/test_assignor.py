"""Properties of the assignment over random clusters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import TransportError
from streamlib.record import TopicPartition
from streamlib.runtime.assignment_codec import (
    SubscriptionData,
    SubtopologyData,
    decode_subscription,
    encode_subscription,
)
from streamlib.runtime.assignor import TaskAssignor, assign_tasks
from streamlib.runtime.partitions import TaskId
from streamlib.transport.base import Member

TASKS = [TaskId(sub, partition) for sub in range(3) for partition in range(6)]


def member(tasks: list[TaskId] = [], stored: list[TaskId] = []) -> SubscriptionData:  # noqa: B006
    return SubscriptionData("f", [tuple(t) for t in tasks], [tuple(t) for t in stored])


@st.composite
def clusters(draw: st.DrawFn):
    tasks = draw(st.lists(st.sampled_from(TASKS), unique=True, max_size=18))
    stateful = [task for task in tasks if draw(st.booleans())]
    names = [f"m{number}" for number in range(draw(st.integers(1, 5)))]
    running: dict[str, list[TaskId]] = {name: [] for name in names}
    for task in tasks:
        owner = draw(st.sampled_from([*names, None]))
        if owner:
            running[owner].append(task)
    stored = {name: draw(st.lists(st.sampled_from(TASKS), unique=True, max_size=6)) for name in names}
    return tasks, stateful, {name: member(running[name], stored[name]) for name in names}


def spread(counts: list[int]) -> int:
    return max(counts) - min(counts)


@given(clusters())
def test_every_task_runs_once_and_loads_differ_by_at_most_one(cluster) -> None:
    tasks, stateful, members = cluster
    assignment = assign_tasks(tasks, stateful, members)
    assert sorted(task for mine in assignment.values() for task in mine) == sorted(tasks)
    assert spread([len(mine) for mine in assignment.values()]) <= 1
    assert spread([len(set(mine) & set(stateful)) for mine in assignment.values()]) <= 1


@given(clusters())
def test_nothing_moves_when_the_same_members_join_again(cluster) -> None:
    tasks, stateful, members = cluster
    first = assign_tasks(tasks, stateful, members)
    again = assign_tasks(tasks, stateful, {name: member(first[name]) for name in members})
    assert again == first


@given(clusters(), st.data())
def test_only_the_lost_tasks_move_when_a_worker_dies(cluster, data) -> None:
    tasks, stateful, members = cluster
    first = assign_tasks(tasks, stateful, members)
    if len(members) < 2:
        return
    dead = data.draw(st.sampled_from(sorted(members)))
    survivors = {name: member(first[name]) for name in members if name != dead}
    second = assign_tasks(tasks, stateful, survivors)
    moved = sum(1 for name in survivors for task in first[name] if task not in second[name])
    # A survivor gives a task away only where that is needed for the balance of stateful tasks.
    assert moved <= len(survivors)


def test_a_task_goes_to_the_worker_that_has_its_state() -> None:
    task = TaskId(0, 3)
    members = {"a": member(), "b": member(stored=[task]), "c": member()}
    assert assign_tasks([task], [task], members)["b"] == [task]


def reading(fingerprint: str, topics: dict[str, int], tasks: list[tuple[int, int]] = []) -> SubscriptionData:  # noqa: B006
    return SubscriptionData(fingerprint, tasks, [], [SubtopologyData(0, topics, True)])


def decided(own: SubscriptionData, **members: SubscriptionData) -> dict[str, list[TopicPartition]]:
    """What a leader with the topology ``own`` gives to ``members``; all topics exist."""
    topics = {
        topic: count for data in members.values() for each in data.subtopologies for topic, count in each.topics.items()
    }
    assigned = TaskAssignor(lambda: own).assign(
        topics, {name: Member(frozenset(topics), encode_subscription(data)) for name, data in members.items()}
    )
    return {name: list(tps) for name, (tps, _) in assigned.items()}


def test_a_member_gets_all_partitions_of_a_task() -> None:
    data = reading("f", {"left": 4, "right": 3})
    assigned = decided(data, a=data, b=data, c=data)
    for tps in assigned.values():
        left = {tp.partition for tp in tps if tp.topic == "left"}
        assert {tp.partition for tp in tps if tp.topic == "right"} == left - {3}
    everything = [TopicPartition("left", p) for p in range(4)] + [TopicPartition("right", p) for p in range(3)]
    assert sorted(tp for tps in assigned.values() for tp in tps) == everything


def test_only_the_version_that_runs_gets_tasks_even_when_a_leader_of_another_version_decides() -> None:
    old, new = reading("old", {"left": 2}), reading("new", {"right": 3})
    runs = reading("old", {"left": 2}, [(0, 0)])
    for leader in (old, new):
        assigned = decided(leader, a=runs, b=new, c=new)
        assert assigned == {"a": [TopicPartition("left", 0), TopicPartition("left", 1)], "b": [], "c": []}


def test_the_version_with_most_members_starts_when_none_runs_yet() -> None:
    old, new = reading("old", {"left": 2}), reading("new", {"right": 2})
    assert decided(old, a=old, b=new, c=new)["a"] == []
    assert decided(old, a=old, b=old, c=new)["c"] == []


def test_a_worker_says_that_it_waits_and_that_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    old, new = reading("old", {"left": 2}), reading("new", {"left": 2})
    assignor = TaskAssignor(lambda: new)
    for data in (old, new):
        decision = assignor.assign({"left": 2}, {"m": Member(frozenset(["left"]), encode_subscription(data))})
        assignor.assigned(*decision["m"])
    first, second = [record.getMessage() for record in caplog.records]
    assert "this worker has another topology" in first
    assert "this version takes over" in second


def test_a_subscription_survives_the_round_trip() -> None:
    data = SubscriptionData("f", [(0, 1)], [(1, 2)], [SubtopologyData(0, {"left": 4}, True)])
    assert decode_subscription("m", encode_subscription(data)) == data


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01", b"\x02abc", b"\x01\x80" + b"x" * 2_000_000])
def test_foreign_bytes_are_refused_with_the_member_named(data: bytes) -> None:
    with pytest.raises(TransportError, match="member-7"):
        decode_subscription("member-7", data)
