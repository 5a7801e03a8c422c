"""Partition counts and tasks, before anything exists on a broker."""

import pytest

from streamlib.errors import MissingTopicError, TopologyError
from streamlib.record import TopicPartition
from streamlib.runtime.partitions import TaskId, resolve_partitions, task_partitions, tasks_of
from streamlib.topology.topology import RepartitionTopic, Subtopology, Topology


def topology(*subtopologies: Subtopology, repartition: dict[str, int | None] | None = None, joined=()) -> Topology:
    topics = {name: RepartitionTopic(name, count) for name, count in (repartition or {}).items()}
    return Topology("app", {}, {}, subtopologies, topics, tuple(frozenset(group) for group in joined))


def sub(number: int, sources: tuple[str, ...], sinks: tuple[str, ...] = (), *, is_global: bool = False) -> Subtopology:
    return Subtopology(number, (), sources, sinks, (), is_global)


def test_all_missing_source_topics_are_named() -> None:
    with pytest.raises(MissingTopicError, match='"a", "b"'):
        resolve_partitions(topology(sub(0, ("b",)), sub(1, ("a", "c"))), {"c": 1})


def test_a_repartition_topic_is_as_wide_as_its_widest_input() -> None:
    plan = topology(
        sub(0, ("a", "b"), ("r-repartition",)), sub(1, ("r-repartition",)), repartition={"r-repartition": None}
    )
    assert resolve_partitions(plan, {"a": 3, "b": 5})["r-repartition"] == 5


def test_a_chain_of_repartition_topics_is_resolved_in_any_order() -> None:
    plan = topology(
        sub(0, ("second",), ("third",)),
        sub(1, ("first",), ("second",)),
        sub(2, ("in",), ("first",)),
        repartition={"third": None, "second": None, "first": 7},
    )
    assert resolve_partitions(plan, {"in": 2}) == {"in": 2, "first": 7, "second": 7, "third": 7}


def test_repartition_topics_that_feed_each_other_are_a_mistake() -> None:
    plan = topology(sub(0, ("x",), ("y",)), sub(1, ("y",), ("x",)), repartition={"x": None, "y": None})
    with pytest.raises(TopologyError, match=r'"x", "y" depend on each other.*repartition\(partitions=N\)'):
        resolve_partitions(plan, {})


@pytest.mark.parametrize(("left", "right"), [(2, 6), (6, 2), (3, 3)])
def test_the_topics_of_a_foreign_key_join_are_as_wide_as_the_tables_they_lead_to(left: int, right: int) -> None:
    plan = topology(
        sub(0, ("l", "back"), ("there", "result")),
        sub(1, ("r", "there"), ("back",)),
        sub(2, ("result",)),
        repartition={"there": None, "back": None, "result": None},
        joined=[{"r", "there"}, {"l", "back"}],
    )
    wanted = {"l": left, "r": right, "there": right, "back": left, "result": max(left, right)}
    assert resolve_partitions(plan, {"l": left, "r": right}) == wanted


def test_a_repartition_topic_takes_the_width_of_what_it_is_joined_with() -> None:
    plan = topology(sub(0, ("a",), ("r",)), sub(1, ("r", "b")), repartition={"r": None}, joined=[{"r", "b"}])
    assert resolve_partitions(plan, {"a": 2, "b": 6})["r"] == 6


def test_joined_topics_of_unlike_width_are_all_named_with_the_mend() -> None:
    plan = topology(sub(0, ("a", "b")), sub(1, ("c", "d")), joined=[{"a", "b"}, {"c", "d"}])
    with pytest.raises(TopologyError) as caught:
        resolve_partitions(plan, {"a": 2, "b": 3, "c": 1, "d": 4})
    assert len(caught.value.problems) == 2
    assert '"a" (2 partitions) with "b" (3 partitions)' in caught.value.problems[0]
    assert ".repartition(partitions=3)" in caught.value.problems[0]


def test_a_fixed_repartition_count_that_contradicts_its_join_is_a_mistake() -> None:
    plan = topology(sub(0, ("a",), ("r",)), sub(1, ("r", "b")), repartition={"r": 4}, joined=[{"r", "b"}])
    with pytest.raises(TopologyError, match=r'"b" \(2 partitions\) with "r" \(4 partitions\)'):
        resolve_partitions(plan, {"a": 2, "b": 2})


def test_tasks_follow_the_widest_source_and_read_what_exists() -> None:
    plan = topology(sub(0, ("wide", "narrow")), sub(1, ("g",), is_global=True))
    counts = {"wide": 3, "narrow": 1, "g": 5}
    assert tasks_of(plan.subtopologies[0], counts) == [TaskId(0, 0), TaskId(0, 1), TaskId(0, 2)]
    assert tasks_of(plan.subtopologies[1], counts) == []
    assert task_partitions(plan, TaskId(0, 0), counts, "app") == {
        TopicPartition("wide", 0): "wide",
        TopicPartition("narrow", 0): "narrow",
    }
    assert task_partitions(plan, TaskId(0, 2), counts, "app") == {TopicPartition("wide", 2): "wide"}


def test_internal_topics_carry_the_application_id() -> None:
    plan = topology(sub(0, ("r",)), repartition={"r": 1})
    assert task_partitions(plan, TaskId(0, 0), {"r": 1}, "shop") == {TopicPartition("shop-r", 0): "r"}
    assert str(TaskId(0, 3)) == "0_3"
