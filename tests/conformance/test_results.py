"""Outputs, errors, stores, dropped records and internal topics are those of Kafka Streams, in every supported scenario.

Three ways of feeding the same steps:

- One by one, a commit after each record, as the Java driver does it: everything must be equal, on either engine.
- In batches of consecutive records of one topic, except where a source wants its records one by one: for each topic
  the same outputs, whatever the step, the same rows in the stores, the same number of dropped records and the same
  bytes in the internal topics. A scenario that fails is left out, since what precedes the bad record in its batch comes
  out or not, and one with a cache, since a cache is flushed at commits and there is one for each batch. Any number of
  source topics will do: steps are grouped only while their topic stays the same, and what waits is processed before the
  next group. Timestamp extractors see the same partition time.
- The scenarios with a cache in batches, too, but compared with their own records one by one and commits in the same
  places: there Java has no answer.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.compare import RESULTS, Result, differences, outputs
from tests.conformance.driver import Driver
from tests.conformance.test_names import SCENARIOS, SUPPORTED, expected, refused

TRACES: dict[str, Any] = json.loads((Path(__file__).parent / "golden_traces.json").read_text())
"""Scenario to internal topic to its records: key and value as hexadecimal digits, timestamp, headers if any."""

RUN = [name for name in SUPPORTED if not refused(name)]
FAILING = {name for name in RUN if "error" in expected(name)}
CACHED = [name for name in RUN if int(SCENARIOS[name].get("config", {}).get("statestore.cache.max.bytes", 0)) > 0]
BY_FOREIGN_KEY = [name for name in RUN if any("fk" in op for op in SCENARIOS[name]["topology"])]
"""A left row meets its right row by way of two topics, on which the records of a batch overtake one another.

An answer to a left row that was changed since is left out, and the answer to the changed row is on its way. So in
batches fewer results come out, more answers are counted as dropped, and only the last value of each key is sure.
"""
ORDER_OF_QUEUES = {name for name in RUN if name.startswith("driver-tie-order")} | {
    "join-stream-stream-self-merge-ties",
    "naming-generated-everywhere",
    "naming-user-names-everywhere",
}
"""Several queues hold records of one time: which comes first depends on when they came, so on the batches.

Or records meet that came by way of several topics, where those of a batch overtake one another.
"""
MIXED = {name for name in RUN if name.startswith("mixed-")}
"""What comes of results depends on how many there were: counts of the results of foreign-key joins, or of a cache."""

BATCHED = [name for name in RUN if name not in {*FAILING, *CACHED, *BY_FOREIGN_KEY, *ORDER_OF_QUEUES}]
COMMITS_ELSEWHERE = {"agg-fan-out-keys-cached"}
"""With a cache above repartition topics: a batch of the source is committed before what it wrote there is taken."""

SIZES = pytest.mark.parametrize(("on_disk", "batch_rows"), [(True, 3), (False, 1_000_000)], ids=["small", "large"])
"""Small batches with a commit after each, so that the next one reads from RocksDB; and everything in one."""


TIME_BEGINS_ANEW = {
    "mixed-buffer-flush-select-key-merge-filter",
    "mixed-count-fk-left-join-outer-join-flat-map",
    "mixed-global-table-fk-join-suppress-flat-map-values",
    "mixed-lookup-split-select-key-aggregate",
    "mixed-map-suppress-count-outer-join",
    "mixed-meta-left-join-global-table-join",
    "mixed-reduce-timestamp-cogroup-aggregate",
    "mixed-select-key-count-dedup-global-table",
    "processor-buffer-stream-time",
    "processor-buffer-wall-clock",
    "processor-metadata-below-cached-windows",
    "processor-metadata-below-final-sessions",
    "processor-metadata-below-suppressed-cache",
    "processor-punctuation-shared-task",
    "processor-topic-by-record-context",
    "processor-wall-clock-and-records",
    "suppress-cogroup",
    "suppress-final-hopping",
    "suppress-final-session",
    "suppress-final-sliding",
    "suppress-final-tumbling",
    "suppress-map-values-before",
    "suppress-max-records-three",
    "suppress-named",
    "suppress-then-group",
    "suppress-then-join",
    "suppress-time-limit",
    "time-extractor-drives-windows",
    "window-hopping-aggregate-order",
    "window-hopping-cached",
    "window-hopping-count-grace",
    "window-hopping-count-no-grace",
    "window-hopping-in-memory",
    "window-hopping-reduce",
    "window-rekey-output",
    "window-result-regrouped",
    "window-retention-longer",
    "window-session-aggregate-order",
    "window-session-cached",
    "window-session-closing-boundary",
    "window-session-count-grace",
    "window-session-count-no-grace",
    "window-session-in-memory",
    "window-session-reduce",
    "window-sliding-aggregate-order",
    "window-sliding-cached",
    "window-sliding-closing-boundary",
    "window-sliding-count-grace",
    "window-sliding-count-no-grace",
    "window-sliding-emit-final-no-grace",
    "window-sliding-in-memory",
    "window-sliding-reduce",
    "window-tumbling-aggregate-order",
    "window-tumbling-cached",
    "window-tumbling-closing-boundary",
    "window-tumbling-count-grace",
    "window-tumbling-count-no-grace",
    "window-tumbling-emit-final-no-grace",
    "window-tumbling-in-memory",
    "window-tumbling-reduce",
}
"""Scenarios with a late record: an operator's own time begins anew after a crash, as in Java, so it is late no more.

And scenarios with punctuators: a schedule begins anew, too, and then waits for a whole interval or fires at once. And
those that show the stream time of the task.
"""

STORES = pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "rocksdb"])


def without_steps(result: Result) -> dict[str, list[Any]]:
    """For each topic its records in order, whatever the step."""
    return {topic: [row[1:] for row in rows] for topic, rows in outputs(result).items()}


def written(driver: Driver) -> dict[str, Any]:
    """The internal topics that have records."""
    return driver.trace


def folded(driver: Driver) -> dict[str, Any]:
    """The same, but of topics that are written at commits only what compaction leaves."""
    topics = dict(written(driver))
    for topic in topics.keys() & driver.logged_at_commits:
        last = {row[0]: row[1:] for row in topics[topic]}
        topics[topic] = {key: row for key, row in last.items() if row[0] is not None}
    return topics


def last_values(result: Result) -> dict[str, dict[str, Any]]:
    """For each topic and store the last value of each key, deletions left out."""
    topics = {topic: {row[0]: row[1] for row in rows} for topic, rows in without_steps(result).items()}
    tables = {name: {str(row[0]): row[1:-1] for row in rows} for name, rows in result["stores"].items()}
    return tables | {
        topic: {key: value for key, value in rows.items() if value != "null"} for topic, rows in topics.items()
    }


def longest_group(name: str) -> int:
    """How many consecutive steps go to one topic."""
    groups = groupby(SCENARIOS[name]["steps"], lambda step: step.get("topic"))
    return max(len(list(group)) for topic, group in groups if topic is not None)


@STORES
@pytest.mark.parametrize("name", RUN)
def test_results_are_those_of_kafka_streams_when_records_come_one_by_one(name: str, on_disk: bool) -> None:
    assert differences(expected(name), Driver(SCENARIOS[name], on_disk=on_disk).result(), RESULTS) == {}


@STORES
@pytest.mark.parametrize("name", [name for name in RUN if name in TRACES])
def test_internal_topics_are_those_of_kafka_streams_when_records_come_one_by_one(name: str, on_disk: bool) -> None:
    driver = Driver(SCENARIOS[name], on_disk=on_disk)
    driver.result()
    assert written(driver) == TRACES[name]


@SIZES
@pytest.mark.parametrize("name", BATCHED)
def test_results_are_those_of_kafka_streams_when_records_come_in_batches(
    name: str, batch_rows: int, on_disk: bool
) -> None:
    driver, single = Driver(SCENARIOS[name], on_disk=on_disk, batch_rows=batch_rows), Driver(SCENARIOS[name])
    theirs, ours = expected(name), driver.result()
    assert without_steps(ours) == without_steps(theirs)
    assert differences(theirs, ours, ["error", "stores", "dropped"]) == {}
    single.result()
    assert folded(driver) == folded(single)
    assert driver.largest_run > 1 or driver.record_order or longest_group(name) == 1


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(BATCHED), sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_results_are_those_of_kafka_streams_however_records_are_cut_into_batches(name: str, sizes: list[int]) -> None:
    ours = Driver(SCENARIOS[name], sizes=sizes).result()
    theirs = expected(name)
    assert without_steps(ours) == without_steps(theirs)
    assert differences(theirs, ours, ["stores", "dropped"]) == {}


@SIZES
@pytest.mark.parametrize("name", [name for name in BY_FOREIGN_KEY if name not in {*FAILING, *MIXED}])
def test_last_results_are_those_of_kafka_streams_when_foreign_key_joins_take_batches(
    name: str, batch_rows: int, on_disk: bool
) -> None:
    driver = Driver(SCENARIOS[name], on_disk=on_disk, batch_rows=batch_rows)
    assert last_values(driver.result()) == last_values(expected(name))
    assert driver.largest_run > 1


@SIZES
@pytest.mark.parametrize("name", [name for name in CACHED if name not in {*COMMITS_ELSEWHERE, *MIXED}])
def test_results_are_those_of_single_records_when_batches_meet_a_cache(
    name: str, batch_rows: int, on_disk: bool
) -> None:
    driver = Driver(SCENARIOS[name], on_disk=on_disk, batch_rows=batch_rows, commit_rows=batch_rows)
    single = Driver(SCENARIOS[name], commit_rows=batch_rows)
    ours, theirs = driver.result(), single.result()
    assert without_steps(ours) == without_steps(theirs)
    assert differences(theirs, ours, ["error", "stores", "dropped"]) == {}
    assert folded(driver) == folded(single)
    assert (driver.largest_run > 1, single.largest_run) == (True, 1)


@pytest.mark.parametrize("name", [name for name in RUN if name not in TIME_BEGINS_ANEW])
def test_results_are_those_of_kafka_streams_when_the_worker_crashes_between_steps(name: str) -> None:
    driver = Driver(SCENARIOS[name], crashing=True)
    assert differences(expected(name), driver.result(), ["outputs", "error", "stores"]) == {}


@pytest.mark.parametrize("name", sorted(TIME_BEGINS_ANEW))
def test_a_late_record_is_taken_when_the_worker_has_crashed_before_it(name: str) -> None:
    assert differences(expected(name), Driver(SCENARIOS[name], crashing=True).result(), ["outputs", "stores"])


@pytest.mark.parametrize(
    ("part", "before", "after"),
    [
        ("outputs", '"step": 5', '"step": 4'),
        ("outputs", '"ts": 14', '"ts": 13'),
        ("stores", '["b", 2', '["b", 3'),
        ("dropped", '"dropped": 2', '"dropped": 1'),
    ],
)
def test_a_difference_is_found_when_a_result_changes(part: str, before: str, after: str) -> None:
    result = {part: expected("agg-count")[part]}
    text = json.dumps(result)
    assert before in text
    assert differences(result, json.loads(text.replace(before, after)), RESULTS).keys() == {part}
