"""Names, topics, stores and results of tables joined by foreign key."""

from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib import KTable, StreamsBuilder, TableJoined, Topology, TopologyError, serdes
from streamlib.record import TopicPartition, Windowed
from streamlib.serdes.subscription import SubscriptionResponse
from streamlib.serdes.windowed import time_windowed_ms
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.nodes import Sink

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
KINDS = pytest.mark.parametrize("kind", ["join", "left_join"])


def table(builder: StreamsBuilder, topic: str, **options: Any) -> KTable[str, str]:
    return builder.table(topic, serdes.STRING, serdes.STRING, name=topic, **options)


def plus(left: str, right: str | None) -> str:
    return f"{left}+{right}"


def first_letter(key: str, value: str) -> str | None:
    return value[:1] or None


def joined(builder: StreamsBuilder, kind: str = "join", **options: Any) -> KTable[str, str]:
    method = getattr(table(builder, "l"), kind)
    result: KTable[str, str] = method(table(builder, "r"), plus, foreign_key=first_letter, **options)
    return result


def sink(topology: Topology, name: str) -> Sink:
    node = topology.nodes[name]
    assert isinstance(node, Sink)
    return node


@KINDS
def test_everything_is_named_after_the_join_when_it_has_a_name(kind: str) -> None:
    builder = StreamsBuilder("app")
    joined(builder, kind, name="j").to_stream()
    topology = builder.build()
    suffixes = """subscription-registration-processor subscription-registration-sink subscription-registration-source
        subscription-receive subscription-join-foreign foreign-join-subscription subscription-response-sink
        subscription-response-source subscription-response-resolver result"""
    assert list(topology.nodes)[4:] == [*(f"j-{suffix}" for suffix in suffixes.split()), "KTABLE-TOSTREAM-0000000020"]
    topics = [topic.name for topic in internal_topics(topology, "app") if topic.name.startswith("app-j-")]
    assert topics == [
        "app-j-subscription-registration-topic",
        "app-j-subscription-response-topic",
        "app-j-subscription-store-changelog",
    ]


def test_numbers_are_taken_in_the_order_of_java_when_nothing_is_named() -> None:
    builder = StreamsBuilder()
    joined(builder).to_stream()
    numbers = [int(name[-10:]) for name in list(builder.build().nodes)[4:]]
    assert numbers == [7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 20]


def test_the_result_takes_no_number_when_its_store_is_named() -> None:
    builder = StreamsBuilder()
    result = joined(builder, store="joined", caching=False, value_serde=serdes.INT64)
    result.to_stream()
    topology = builder.build()
    assert result.queryable_store_name == "joined"
    assert list(topology.nodes)[-1] == "KTABLE-TOSTREAM-0000000019"
    spec = topology.stores["joined"]
    assert (spec.key_serde, spec.value_serde, spec.caching) == (serdes.STRING, serdes.INT64, False)


def test_the_result_gets_a_store_only_when_somebody_needs_its_rows() -> None:
    for needs, wanted in ((False, 3), (True, 5)):
        builder = StreamsBuilder()
        result = joined(builder)
        assert result.queryable_store_name is None
        if needs:
            result.group_by(lambda key, value: (value, key)).count()
        assert len(builder.build().stores) == wanted


def test_each_topic_is_as_wide_as_the_table_it_leads_to() -> None:
    builder = StreamsBuilder()
    joined(builder, name="j")
    assert set(builder.build().copartition_groups) == {
        frozenset({"r", "j-subscription-registration-topic"}),
        frozenset({"l", "j-subscription-response-topic"}),
    }


def test_subscriptions_are_never_cached_and_live_where_the_builder_says() -> None:
    for in_memory in (False, True):
        builder = StreamsBuilder(in_memory=in_memory)
        joined(builder, name="j", in_memory=not in_memory, store="s")
        topology = builder.build()
        spec = topology.stores["j-subscription-store"]
        assert (spec.caching, spec.logging, spec.persistent) == (False, True, not in_memory)
        assert topology.stores["s"].persistent is in_memory


def test_answers_go_to_the_partition_that_the_subscription_named() -> None:
    builder = StreamsBuilder()
    joined(builder, name="j")
    partitioner = sink(builder.build(), "j-subscription-response-sink").partitioner
    assert partitioner is not None
    assert partitioner(b"a", SubscriptionResponse(None, None, 5), 8) == 5
    assert partitioner(b"a", SubscriptionResponse(None, None, None), 8) is None


def test_partitioners_get_keys_as_objects_and_no_values() -> None:
    seen: list[Any] = []

    def choose(*arguments: Any) -> int:
        seen.append(arguments)
        return 1

    builder = StreamsBuilder()
    options: TableJoined = {"name": "j", "partitioner": choose, "other_partitioner": choose}
    joined(builder, **options)
    topology = builder.build()
    for name, key in (("j-subscription-registration-sink", None), ("j-subscription-response-sink", b"a")):
        partitioner = sink(topology, name).partitioner
        assert partitioner is not None
        assert partitioner(key, "value", 4) == 1
    assert seen == [(None, None, 4), ("a", None, 4)]


def test_a_windowed_foreign_key_goes_where_its_plain_key_goes() -> None:
    builder = StreamsBuilder()
    windowed = time_windowed_ms(serdes.STRING, 10)
    right = builder.table("r", windowed, serdes.STRING)
    table(builder, "l").join(right, plus, foreign_key=lambda key, value: Windowed(value, 0, 10), name="j")
    serde = sink(builder.build(), "j-subscription-registration-sink").key_serde
    assert serde.partition_bytes is not None
    assert serde.partition_bytes([b"key\0\0\0\0\0\0\0\0", None]) == [b"key", None]


def test_mistakes_are_told_at_build() -> None:
    builder, other = StreamsBuilder(), StreamsBuilder()
    left = table(builder, "l")
    left.join("r", plus, foreign_key=first_letter)  # type: ignore
    left.join(table(other, "r"), plus, foreign_key=first_letter, name="foreign")
    left.left_join(table(builder, "q"), plus, foreign_key="fk", name="no-function")  # type: ignore
    left.join(table(builder, "s"), None, foreign_key=first_letter, name="no-joiner")  # type: ignore
    left.join(table(builder, "t"), plus, foreign_key=first_letter, name="no joiner")
    with pytest.raises(TopologyError) as caught:
        builder.build()
    text = "\n".join(caught.value.problems)
    assert "a table can be joined with another KTable, got 'r'" in text
    assert '"foreign-result" combines streams or tables of two builders' in text
    assert "\"no-function-subscription-registration-processor\" needs a function as its foreign_key, got 'fk'" in text
    assert '"no-joiner-subscription-response-resolver" needs a function as its joiner, got None' in text
    assert "the name 'no joiner' cannot be used" in text


def test_unknown_options_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="grace"):
        joined(StreamsBuilder(), grace=1)
    builder = StreamsBuilder()
    with pytest.raises(TypeError, match="partitioner"):
        table(builder, "l").join(table(builder, "r"), plus, partitioner=lambda *_: 0)  # type: ignore


# ---- results -----------------------------------------------------------------------------------------------


Update = tuple[str, str, str | None]


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    """Updates of either side: left values begin with their foreign key, if they have one, and all are different."""
    moves = st.one_of(
        st.tuples(st.just("l"), st.sampled_from("abc"), st.sampled_from(["x", "y", "z", "", None])),
        st.tuples(st.just("r"), st.sampled_from("xy"), st.sampled_from(["", None])),
    )
    return [
        (topic, key, None if text is None else f"{text}{number}" if text or topic == "r" else "")
        for number, (topic, key, text) in enumerate(draw(st.lists(moves, max_size=25)))
    ]


def run(driver: TopologyTestDriver, updates: list[Update]) -> dict[str, dict[str, str]]:
    """What is in both tables after the updates; consecutive ones of a table come in one poll."""
    sides: dict[str, dict[str, str]] = {"l": {}, "r": {}}
    for topic, group in groupby(updates, itemgetter(0)):
        part = list(group)
        encode = serdes.STRING.serialize_many
        keys, values = encode([key for _, key, _ in part]), encode([value for _, _, value in part])
        driver.pipe_rows(topic, [Row(key, value, 1, ()) for key, value in zip(keys, values, strict=True)])
        for _, key, value in part:
            sides[topic].pop(key, None)
            if value is not None:
                sides[topic][key] = value
    return sides


def results(driver: TopologyTestDriver) -> dict[str, str]:
    """The last value of each key, of all that ever came out."""
    last = {row.key: row.value for row in driver.logs.topics["out"]}
    return {key.decode(): value.decode() for key, value in last.items() if key is not None and value is not None}


@KINDS
@settings(max_examples=60, deadline=None)
@given(
    updates=updates(),
    stored=st.booleans(),
    cache_bytes=st.sampled_from([0, 1 << 20]),
    sizes=st.sampled_from([(1, 1), (3, 1), (3, 3), (100, 100)]),
)
def test_the_last_results_are_the_join_of_both_tables(kind, updates, stored, cache_bytes, sizes) -> None:
    if kind == "join":  # A row that loses its foreign key and is deleted before the answer comes keeps its result.
        updates = [(topic, key, f"z{key}" if value == "" else value) for topic, key, value in updates]
    builder = StreamsBuilder("app", in_memory=True)
    joined(builder, kind, name="j", ask_again=True, **({"store": "s"} if stored else {})).to_stream().to("out")
    config = {"application_id": "app", "statestore_cache_max_bytes": cache_bytes}
    batch_rows, commit_rows = sizes
    with TopologyTestDriver(builder.build(), config, batch_rows=batch_rows, commit_rows=commit_rows) as driver:
        sides = run(driver, updates)
        left, right = sides["l"], sides["r"]
        matches = {key: (value, right.get(value[:1])) for key, value in left.items()}
        wanted = {key: plus(*pair) for key, pair in matches.items() if kind == "left_join" or pair[1] is not None}
        assert results(driver) == wanted
        if stored:
            assert {key.decode(): value for key, value, _ in driver.store("s").scan()} == wanted  # type: ignore
        kept = [key[4:].decode() for key, _, _ in driver.store("j-subscription-store").scan()]  # type: ignore
        assert sorted(kept) == sorted(value[0] + key for key, value in left.items() if value)


@pytest.mark.parametrize(
    "burst",
    [
        [("l", "a", "y1"), ("l", "a", "y2")],
        [("l", "a", None), ("l", "a", "y2")],
        [("l", "a", ""), ("l", "a", "y2")],
        [("l", "a", None), ("l", "a", "")],
        [("l", "a", "y1"), ("l", "a", ""), ("l", "a", "y2")],
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_an_old_result_goes_when_updates_overtake_the_answer_that_deletes_it(burst, batch_rows) -> None:
    builder = StreamsBuilder("app", in_memory=True)
    joined(builder, ask_again=True).to_stream().to("out")
    config = {"application_id": "app", "statestore_cache_max_bytes": 0}
    with TopologyTestDriver(builder.build(), config, batch_rows=batch_rows) as driver:
        run(driver, [("r", "x", "1"), ("l", "a", "x0")])
        assert results(driver) == {"a": "x0+1"}
        run(driver, burst)
        assert results(driver) == {}


def test_an_old_result_goes_when_an_update_overtakes_the_deletion_of_its_right_row() -> None:
    builder = StreamsBuilder("app", in_memory=True)
    joined(builder, ask_again=True).to_stream().to("out")
    config = {"application_id": "app", "statestore_cache_max_bytes": 0}
    with TopologyTestDriver(builder.build(), config) as driver:
        run(driver, [("r", "x", "1"), ("l", "a", "x0")])
        # Both wait; the left update is taken after the deletion, and before the answer to it.
        driver.logs.append(TopicPartition("r", 0), [b"x"], [None], [1])
        driver.logs.append(TopicPartition("l", 0), [b"a"], [b"x1"], [1])
        driver.advance_wall_clock_time(timedelta())
        assert results(driver) == {}
