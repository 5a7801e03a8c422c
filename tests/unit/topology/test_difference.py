import dataclasses
import json
from typing import Any

import pytest

from streamlib import StreamsBuilder, TimeWindows, Topology, serdes
from streamlib.topology.difference import Difference, difference
from streamlib.topology.outline import read_outline

TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def compared(old: Topology, new: Topology) -> Difference:
    return difference(read_outline(old.to_json()), read_outline(new.to_json()))


def reasons(found: Difference) -> list[str]:
    return [conflict.text for conflict in found.conflicts]


def counted(store: str = "counts", *, topic: str | None = None, before: str | None = None, **options: Any) -> Topology:
    builder = StreamsBuilder("app")
    if before is not None:
        builder.table(before, **TEXT, store=f"{before}-store")
    stream = builder.stream("in", **TEXT)
    grouped = stream.group_by_key() if topic is None else stream.group_by(lambda _, value: value, name=topic)
    grouped.count(store=store, **options)
    return builder.build()


def table(optimization: Any) -> Topology:
    builder = StreamsBuilder("app")
    builder.table("in", **TEXT, store="rows")
    return builder.build(optimization=optimization)


def windowed(size_ms: int) -> Topology:
    builder = StreamsBuilder("app")
    builder.stream("in", **TEXT).group_by_key().windowed_by(TimeWindows(size_ms, size_ms)).count(store="counts")
    return builder.build()


def test_nothing_stands_against_a_plan_like_the_old_one() -> None:
    found = compared(counted(topic="by"), counted(topic="by"))
    assert not found.needs_reset
    assert found.notes == (
        'store "counts" stays',
        'repartition topic "by-repartition" stays',
        "sub-topology 0 (in) stays",
        "sub-topology 1 (by-repartition) stays",
    )


def test_a_store_that_moves_to_other_tasks_is_restored() -> None:
    found = compared(counted(), counted(before="users"))
    assert not found.needs_reset
    assert 'store "counts" moves from sub-topology 0 to 1: it is restored from its changelog' in found.notes
    assert "sub-topology 1 (in) was 0: tasks 0_* become 1_*" in found.notes
    assert 'store "users-store" appears: it knows nothing of what was processed before' in found.notes


def test_a_store_that_moves_without_a_changelog_needs_a_reset() -> None:
    found = compared(counted(logging=False), counted(before="users", logging=False))
    assert reasons(found) == ['store "counts" moves to other tasks and has no changelog: its rows are lost']


def test_a_store_that_goes_is_orphaned_without_harm() -> None:
    found = compared(counted(before="users"), counted())
    assert not found.needs_reset
    assert 'store "users-store" is orphaned: its changelog is left behind' in found.notes


def test_a_store_with_a_new_name_needs_a_reset() -> None:
    assert reasons(compared(counted(), counted("totals"))) == [
        'store "counts" goes and "totals" of the same kind appears: under the new name it starts empty'
    ]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [(windowed(10), windowed(20), "window_size_ms 10 to 20"), (counted(), windowed(10), "kind key_value to window")],
)
def test_a_store_of_another_kind_needs_a_reset(old: Topology, new: Topology, what: str) -> None:
    (reason,) = reasons(compared(old, new))
    assert what in reason


def test_a_repartition_topic_that_goes_needs_a_reset() -> None:
    assert reasons(compared(counted(topic="by"), counted(topic="other"))) == [
        'repartition topic "by-repartition" goes: records in it that were not processed yet are lost'
    ]


def test_other_partitions_need_a_reset() -> None:
    old = counted(topic="by")
    plan = json.loads(old.to_json())
    plan["repartition_topics"][0]["partitions"] = 4
    four = read_outline(json.dumps(plan))
    eight = dataclasses.replace(four, repartition_topics={"by-repartition": 8})
    (conflict,) = difference(four, eight).conflicts
    assert "8 partitions instead of 4" in conflict.text


@pytest.mark.parametrize(("old", "new"), [("none", "all"), ("all", "none")])
def test_switching_the_reuse_of_source_topics_needs_a_reset(old: str, new: str) -> None:
    (reason,) = reasons(compared(table(old), table(new)))
    assert reason.startswith('store "rows" has another changelog: ')


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"format": 1}', '{"format": 2, "stores": []}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|format|not what"):
        read_outline(text)
