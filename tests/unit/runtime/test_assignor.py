"""What members tell each other, and what the leader's decision is as partitions."""

import msgspec
import pytest

from streamlib.errors import TransportError
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
from streamlib.runtime.assignor import TaskAssignor
from streamlib.runtime.placement import PlacementOptions
from streamlib.transport.base import Member


def reading(fingerprint: str, topics: dict[str, int], tasks: list[tuple[int, int]] = []) -> SubscriptionData:  # noqa: B006
    running = [TaskData(*task, "running") for task in tasks]
    return SubscriptionData(fingerprint, tasks=running, subtopologies=[SubtopologyData(0, topics, True, True)])


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


def test_members_are_told_their_copies_and_one_of_them_to_ask_again() -> None:
    cold = SubscriptionData("f", "p2", subtopologies=[SubtopologyData(0, {"left": 2}, True, True)])
    tasks = [TaskData(0, partition, "running", 50_000) for partition in range(2)]
    warm = SubscriptionData("f", "p1", tasks, subtopologies=cold.subtopologies)
    assignor = TaskAssignor(lambda: warm, PlacementOptions(standbys=1))
    members = {
        name: Member(frozenset(["left"]), encode_subscription(data)) for name, data in [("a", cold), ("b", warm)]
    }
    decided = {
        name: (tps, decode_decision(data)) for name, (tps, data) in assignor.assign({"left": 2}, members).items()
    }
    assert decided["b"] == (
        [TopicPartition("left", 0), TopicPartition("left", 1)],
        DecisionData("f", probe=True, processes=["p1", "p2"]),
    )
    tps, decision = decided["a"]
    assert tps == []
    assert sorted(decision.standbys + decision.warm_ups) == [(0, 0), (0, 1)]
    assert len(decision.warm_ups) == 1
    assert not decision.probe


def test_each_join_tells_something_new_so_that_brokers_rebalance() -> None:
    data = reading("f", {"left": 2})
    assignor = TaskAssignor(lambda: data)
    assert assignor.subscription() != assignor.subscription()


def test_a_subscription_survives_the_round_trip() -> None:
    tasks = [TaskData(0, 1, "running", 5), TaskData(1, 2, "standby", 7)]
    data = SubscriptionData("f", "p", tasks, {"rack": "1"}, [SubtopologyData(0, {"left": 4}, True)], 3)
    assert decode_subscription("m", encode_subscription(data)) == data


def test_a_decision_survives_the_round_trip() -> None:
    data = DecisionData("f", [(0, 1)], [(1, 2)], True)
    assert decode_decision(encode_decision(data)) == data


def test_a_decision_of_another_protocol_names_no_topology() -> None:
    assert decode_decision(b"") == decode_decision(b"\x01abc") == DecisionData("")


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x02", b"\x01abc", b"\x02\x80" + b"x" * 2_000_000])
def test_foreign_bytes_are_refused_with_the_member_named(data: bytes) -> None:
    with pytest.raises(TransportError, match="member-7"):
        decode_subscription("member-7", data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fingerprint": "f", "tasks": [[0, -1, "running", 0]]},
        {"fingerprint": "f", "tasks": [[0, 0, "resting", 0]]},
        {"fingerprint": "f", "surplus": 1},
        {"fingerprint": "f", "subtopologies": [{"number": 0, "topics": {"t": 10**9}, "stateful": True}]},
    ],
)
def test_a_malformed_subscription_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TransportError, match="malformed"):
        decode_subscription("m", b"\x02" + msgspec.msgpack.encode(wrong))
