"""What a watch says about topics that go, come back or get wider."""

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.clock import Clock
from streamlib.errors import BrokerUnavailableError, InternalTopicError, MissingTopicError
from streamlib.runtime.topic_watch import TopicWatch, topics_in_use

COUNTS = {"in": 2, "out": 2, "app-counts-repartition": 2, "app-counts-changelog": 2, "another": 9}


class Answers:
    """An admin that gives these answers to one look after the other, and then ends the watch."""

    def __init__(self, *answers: dict[str, int] | Exception) -> None:
        self._answers = list(answers)

    async def partition_counts(self, topics: list[str]) -> dict[str, int]:
        if not self._answers:
            raise LookupError
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {topic: answer[topic] for topic in topics if topic in answer}

    async def topic_ids(self, topics: list[str]) -> dict[str, str]:
        return {}


class NoTime(Clock):
    async def sleep(self, seconds: float) -> None:
        pass


def counting():
    builder = StreamsBuilder("app")
    stream = builder.stream("in", serdes.STRING, serdes.STRING)
    stream.group_by(lambda _, word: word).count(store="counts").to_stream().to("out")
    return builder.build()


async def told(*answers: dict[str, int] | Exception) -> None:
    await TopicWatch(Answers(*answers), topics_in_use(counting(), "app", COUNTS), NoTime()).follow()


def test_everything_read_and_written_is_watched_by_its_kind() -> None:
    assert {name: topic.kind for name, topic in topics_in_use(counting(), "app", COUNTS).items()} == {
        "in": "source",
        "out": "sink",
        "app-counts-repartition": "repartition",
        "app-counts-changelog": "changelog",
    }


async def test_all_topics_that_stay_away_are_named() -> None:
    left = {"in": 2, "app-counts-repartition": 2}
    with pytest.raises(MissingTopicError) as caught:
        await told(COUNTS, left, left, left)
    assert [line.partition(" does")[0] for line in str(caught.value).splitlines()] == [
        'the changelog topic "app-counts-changelog"',
        'the sink topic "out"',
    ]


async def test_topics_that_are_away_for_a_moment_are_no_matter() -> None:
    with pytest.raises(LookupError):
        await told(COUNTS, {}, {}, COUNTS, BrokerUnavailableError("away"), {}, {}, COUNTS)


async def test_new_partitions_of_what_is_read_are_told() -> None:
    with pytest.raises(InternalTopicError, match='the source topic "in" has 3 partitions now, it had 2'):
        await told(COUNTS, COUNTS | {"in": 3})


async def test_new_partitions_of_what_is_only_written_are_no_matter() -> None:
    with pytest.raises(LookupError):
        await told(COUNTS, COUNTS | {"out": 3})
