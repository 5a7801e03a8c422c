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
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine, RocksMemory
from tests.conformance.compare import RESULTS, Result, differences, outputs
from tests.conformance.driver import Driver
from tests.conformance.test_names import SCENARIOS, SUPPORTED, built, expected, refused

TRACES: dict[str, Any] = json.loads((Path(__file__).parent / "golden_traces.json").read_text())
"""Scenario to internal topic to its records: key and value as hexadecimal digits, timestamp, headers if any."""

EXPIRED_ROWS_LISTED = {
    "window-hopping-cached": "window-hopping-count-grace",
    "window-tumbling-cached": "window-tumbling-count-grace",
}
"""Scenarios in which Java lists rows past their retention, to the same without a cache, in which it does not.

A row that a flush has written stays in Java's cache, marked clean, until memory runs out (``NamedCache.flush``).
``CachingWindowStore.all`` merges the cache with the store, and only the store leaves out what has expired
(``AbstractRocksDBSegmentedBytesStore.all``). So what is listed there depends on the memory of the cache. Here a listing
is what the store has, with a cache or without.
"""

RUN = [name for name in SUPPORTED if not refused(name)]
FAILING = {name for name in RUN if "error" in expected(name)}
CACHED = [name for name in RUN if int(SCENARIOS[name].get("config", {}).get("statestore.cache.max.bytes", 0)) > 0]
BATCHED = [name for name in RUN if name not in FAILING and name not in CACHED]

SIZES = pytest.mark.parametrize(("engine", "batch_rows"), [("rocksdb", 3), ("memory", 1_000_000)], indirect=["engine"])
"""Small batches with a commit after each, so that the next one reads from RocksDB; and everything in one."""


@pytest.fixture(scope="session")
def memory() -> RocksMemory:
    return RocksMemory(16 * 1024 * 1024)


@pytest.fixture(params=["memory", "rocksdb"])
def engine(request: pytest.FixtureRequest, memory: RocksMemory) -> Iterator[Engine]:
    made: Engine = MemoryEngine()
    if request.param == "rocksdb":
        made = RocksEngine.open(request.getfixturevalue("tmp_path") / "0_0", memory)
    yield made
    made.destroy()


def without_steps(result: Result) -> dict[str, list[Any]]:
    """For each topic its records in order, whatever the step."""
    return {topic: [row[1:] for row in rows] for topic, rows in outputs(result).items()}


def written(driver: Driver) -> dict[str, Any]:
    """The internal topics that have records."""
    return {topic: rows for topic, rows in driver.trace.items() if rows}


def longest_group(name: str) -> int:
    """How many consecutive steps go to one topic."""
    return max(len(list(group)) for _, group in groupby(SCENARIOS[name]["steps"], lambda step: step["topic"]))


@pytest.mark.parametrize("name", [name for name in RUN if name not in EXPIRED_ROWS_LISTED])
def test_results_are_those_of_kafka_streams_when_records_come_one_by_one(name: str, engine: Engine) -> None:
    assert differences(expected(name), Driver(SCENARIOS[name], engine).result(), RESULTS) == {}


@pytest.mark.parametrize(("cached", "uncached"), EXPIRED_ROWS_LISTED.items())
def test_only_live_rows_are_listed_when_a_window_store_has_a_cache(cached: str, uncached: str, engine: Engine) -> None:
    assert [SCENARIOS[cached][part] for part in ("topology", "steps")] == [
        SCENARIOS[uncached][part] for part in ("topology", "steps")
    ]
    theirs, ours = expected(cached), Driver(SCENARIOS[cached], engine).result()
    assert differences(theirs, ours, RESULTS).keys() == {"stores"}
    assert differences(expected(uncached), ours, ["stores"]) == {}
    rows = theirs["stores"]["win"]
    live_from = max(row[0]["start"] for row in rows) - built(cached).stores["win"].retention_ms + 1
    live = [row for row in rows if row[0]["start"] >= live_from]
    assert differences({"stores": {"win": live}}, ours, ["stores"]) == {}


@pytest.mark.parametrize("name", [name for name in RUN if name in TRACES])
def test_internal_topics_are_those_of_kafka_streams_when_records_come_one_by_one(name: str, engine: Engine) -> None:
    driver = Driver(SCENARIOS[name], engine)
    driver.result()
    assert written(driver) == TRACES[name]


@SIZES
@pytest.mark.parametrize("name", BATCHED)
def test_results_are_those_of_kafka_streams_when_records_come_in_batches(
    name: str, batch_rows: int, engine: Engine
) -> None:
    driver, single = Driver(SCENARIOS[name], engine, batch_rows=batch_rows), Driver(SCENARIOS[name], MemoryEngine())
    theirs, ours = expected(name), driver.result()
    assert without_steps(ours) == without_steps(theirs)
    assert differences(theirs, ours, ["error", "stores", "dropped"]) == {}
    single.result()
    assert written(driver) == written(single)
    assert driver.largest_run > 1 or driver.record_order or longest_group(name) == 1


@SIZES
@pytest.mark.parametrize("name", CACHED)
def test_results_are_those_of_single_records_when_batches_meet_a_cache(
    name: str, batch_rows: int, engine: Engine
) -> None:
    driver = Driver(SCENARIOS[name], engine, batch_rows=batch_rows, commit_rows=batch_rows)
    single = Driver(SCENARIOS[name], MemoryEngine(), commit_rows=batch_rows)
    ours, theirs = driver.result(), single.result()
    assert without_steps(ours) == without_steps(theirs)
    assert differences(theirs, ours, ["error", "stores", "dropped"]) == {}
    assert written(driver) == written(single)
    assert (driver.largest_run > 1, single.largest_run) == (True, 1)


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
