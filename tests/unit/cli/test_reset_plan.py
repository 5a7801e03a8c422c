from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamlib import serdes
from streamlib.cli.reset_plan import (
    Application,
    ResetPlan,
    Target,
    carry_out,
    input_topics_of,
    internal_topics_of,
    plan_reset,
)
from streamlib.errors import ConfigError, MissingTopicError
from streamlib.record import TopicPartition
from streamlib.state.spec import StoreSpec
from streamlib.topology.topology import RepartitionTopic, Subtopology, Topology
from streamlib.transport.base import Admin, OffsetAndMetadata, TopicSpec
from streamlib.transport.memory import MemoryTransport

ONE, TWO = TopicPartition("lines", 0), TopicPartition("lines", 1)
OTHER = TopicPartition("other", 0)


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """Topics of the application `app`: 10 records at 1000, 1001... in `lines`-0, none in `lines`-1; 4 committed."""
    transport = MemoryTransport()
    await transport.start()
    connected = await transport.admin()
    names = [
        "app-count-changelog",
        "app-words-repartition",
        "app-output",
        "app-two-count-changelog",
        "application-x-changelog",
    ]
    await connected.create_topics([TopicSpec("lines", 2), *(TopicSpec(name, 1) for name in ["other", *names])])
    producer = transport.producer()
    await producer.start()
    producer.append(ONE, [b"k"] * 10, [b"v"] * 10, list(range(1000, 1010)))
    await producer.flush()
    await producer.close()
    await connected.set_group_offsets("app", {ONE: OffsetAndMetadata(4), OTHER: OffsetAndMetadata(0)})
    yield connected
    await connected.close()
    await transport.close()


async def planned(admin: Admin, target: Target, **application: object) -> ResetPlan:
    return await plan_reset(admin, Application("app", ["lines"], **application), target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (Target(), (0, 0)),
        (Target("latest"), (10, 0)),
        (Target("offset", 6), (6, 0)),
        (Target("offset", 99), (10, 0)),
        (Target("moment", 1007), (7, 0)),
        (Target("moment", 2000), (10, 0)),
        (Target("shift", 3), (7, 0)),
        (Target("shift", -3), (1, 0)),
        (Target("shift", -30), (0, 0)),
    ],
    ids=str,
)
async def test_offsets_move_to_the_target_within_the_log(admin: Admin, target: Target, wanted: tuple[int, int]) -> None:
    plan = await planned(admin, target)
    assert plan.offsets == {ONE: (4, wanted[0]), TWO: (None, wanted[1])}


async def test_after_deleted_records_the_earliest_is_the_first_that_exists(admin: Admin) -> None:
    await admin.delete_records({ONE: 3})
    assert (await planned(admin, Target())).offsets[ONE] == (4, 3)
    assert (await planned(admin, Target("offset", 1))).offsets[ONE] == (4, 3)


async def test_internal_topics_are_those_whose_names_say_so(admin: Admin) -> None:
    plan = await planned(admin, Target())
    assert plan.topics == ["app-count-changelog", "app-two-count-changelog", "app-words-repartition"]
    assert plan.left_alone == {}


async def test_topics_of_a_group_with_a_longer_id_are_left_alone(admin: Admin) -> None:
    await admin.set_group_offsets("app-two", {OTHER: OffsetAndMetadata(0)})
    plan = await planned(admin, Target())
    assert plan.topics == ["app-count-changelog", "app-words-repartition"]
    assert plan.left_alone == {"app-two-count-changelog": "app-two"}


async def test_topics_of_the_topology_are_deleted_whatever_they_look_like(admin: Admin) -> None:
    await admin.set_group_offsets("app-two", {OTHER: OffsetAndMetadata(0)})
    plan = await planned(
        admin, Target(), own_internal_topics=frozenset({"app-two-count-changelog", "app-gone-changelog"})
    )
    assert plan.topics == ["app-count-changelog", "app-two-count-changelog", "app-words-repartition"]


async def test_only_the_internal_topics_asked_for_are_deleted(admin: Admin) -> None:
    assert (await planned(admin, Target(), internal_topics=["app-output"])).topics == ["app-output"]
    assert (await planned(admin, Target(), internal_topics=[])).topics == []


async def test_a_missing_input_topic_is_an_error(admin: Admin) -> None:
    with pytest.raises(MissingTopicError, match="there is no topic linez; nothing was changed"):
        await plan_reset(admin, Application("app", ["linez", "lines"]), Target())


async def test_carrying_out_moves_offsets_and_deletes_what_was_planned(admin: Admin, tmp_path: Path) -> None:
    for folder in ("app", "0/app", "1/app", "other/app", "app-two"):
        (tmp_path / folder / "0_0").mkdir(parents=True)
    plan = await planned(admin, Target("offset", 2), state_dir=tmp_path)
    assert plan.directories == [tmp_path / "app", tmp_path / "0" / "app", tmp_path / "1" / "app"]
    await carry_out(admin, plan)
    offsets = {tp: each.offset for tp, each in (await admin.group_offsets("app")).items()}
    assert offsets == {ONE: 2, TWO: 0, OTHER: 0}
    assert set(await admin.partition_counts()) == {"lines", "other", "app-output", "application-x-changelog"}
    assert [path for path in plan.directories if path.exists()] == []
    assert (tmp_path / "other" / "app").exists()
    assert (tmp_path / "app-two").exists()


@pytest.mark.parametrize("name", ["..", "../other", "/etc"])
async def test_an_application_id_never_leads_out_of_the_state_directory(
    admin: Admin, name: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder of local state"):
        await plan_reset(admin, Application(name, ["lines"], state_dir=tmp_path), Target())


async def test_nothing_is_left_to_do_after_a_reset(admin: Admin, tmp_path: Path) -> None:
    await carry_out(admin, await planned(admin, Target(), state_dir=tmp_path))
    assert (await planned(admin, Target(), state_dir=tmp_path / "absent")).is_empty


def test_a_topology_tells_its_input_and_internal_topics() -> None:
    def store(name: str, source: str | None = None, *, logging: bool = True) -> StoreSpec:
        return StoreSpec(name, "key_value", serdes.STRING, serdes.STRING, source_topic=source, logging=logging)

    topology = Topology(
        "app",
        {},
        {each.name: each for each in [store("count"), store("table", "users"), store("scratch", logging=False)]},
        (
            Subtopology(0, (), ("lines", "users"), ("words-repartition",), ()),
            Subtopology(1, (), ("words-repartition",), (), ("count",)),
            Subtopology(2, (), ("countries",), (), (), is_global=True),
        ),
        {"words-repartition": RepartitionTopic("words-repartition")},
    )
    assert input_topics_of(topology) == ["lines", "users"]
    assert internal_topics_of(topology, "id") == {"id-count-changelog", "id-words-repartition"}
