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

from tests.conformance.compare import RESULTS, Result, differences, outputs
from tests.conformance.driver import Driver
from tests.conformance.test_names import SCENARIOS, SUPPORTED, expected, refused

TRACES: dict[str, Any] = json.loads((Path(__file__).parent / "golden_traces.json").read_text())
"""Scenario to internal topic to its records: key and value as hexadecimal digits, timestamp, headers if any."""

RUN = [name for name in SUPPORTED if not refused(name)]
FAILING = {name for name in RUN if "error" in expected(name)}
CACHED = [name for name in RUN if int(SCENARIOS[name].get("config", {}).get("statestore.cache.max.bytes", 0)) > 0]
BATCHED = [name for name in RUN if name not in FAILING and name not in CACHED]

SIZES = pytest.mark.parametrize(("on_disk", "batch_rows"), [(True, 3), (False, 1_000_000)], ids=["small", "large"])
"""Small batches with a commit after each, so that the next one reads from RocksDB; and everything in one."""


TIME_BEGINS_ANEW = {
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
    "window-tumbling-aggregate-order",
    "window-tumbling-cached",
    "window-tumbling-closing-boundary",
    "window-tumbling-count-grace",
    "window-tumbling-count-no-grace",
    "window-tumbling-in-memory",
    "window-tumbling-reduce",
}
"""Scenarios with a late record: an operator's own time begins anew after a crash, as in Java, so it is late no more."""

STORES = pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "rocksdb"])


def without_steps(result: Result) -> dict[str, list[Any]]:
    """For each topic its records in order, whatever the step."""
    return {topic: [row[1:] for row in rows] for topic, rows in outputs(result).items()}


def written(driver: Driver) -> dict[str, Any]:
    """The internal topics that have records."""
    return driver.trace


def longest_group(name: str) -> int:
    """How many consecutive steps go to one topic."""
    return max(len(list(group)) for _, group in groupby(SCENARIOS[name]["steps"], lambda step: step["topic"]))


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
    assert written(driver) == written(single)
    assert driver.largest_run > 1 or driver.record_order or longest_group(name) == 1


@SIZES
@pytest.mark.parametrize("name", CACHED)
def test_results_are_those_of_single_records_when_batches_meet_a_cache(
    name: str, batch_rows: int, on_disk: bool
) -> None:
    driver = Driver(SCENARIOS[name], on_disk=on_disk, batch_rows=batch_rows, commit_rows=batch_rows)
    single = Driver(SCENARIOS[name], commit_rows=batch_rows)
    ours, theirs = driver.result(), single.result()
    assert without_steps(ours) == without_steps(theirs)
    assert differences(theirs, ours, ["error", "stores", "dropped"]) == {}
    assert written(driver) == written(single)
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
