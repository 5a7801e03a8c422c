"""Properties of the assignment over random clusters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import TransportError
from streamlib.record import TopicPartition
from streamlib.runtime.assignment_codec import SubscriptionData, decode_subscription, encode_subscription
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


def test_a_member_gets_all_partitions_of_a_task() -> None:
    partitions = {TaskId(0, p): [TopicPartition("left", p), TopicPartition("right", p)] for p in range(4)}
    assignor = TaskAssignor(member, partitions, [])
    members = {name: Member(frozenset(["left", "right"]), encode_subscription(member())) for name in ("a", "b", "c")}
    assigned = assignor.assign({"left": 4, "right": 4}, members)
    for tps, _ in assigned.values():
        assert {tp.partition for tp in tps if tp.topic == "left"} == {tp.partition for tp in tps if tp.topic == "right"}
    assert sorted(tp for tps, _ in assigned.values() for tp in tps) == sorted(
        tp for tps in partitions.values() for tp in tps
    )


def test_a_subscription_survives_the_round_trip() -> None:
    data = SubscriptionData("f", [(0, 1)], [(1, 2)])
    assert decode_subscription("m", encode_subscription(data)) == data


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01", b"\x02abc", b"\x01\x80" + b"x" * 2_000_000])
def test_foreign_bytes_are_refused_with_the_member_named(data: bytes) -> None:
    with pytest.raises(TransportError, match="member-7"):
        decode_subscription("member-7", data)
