"""A scenario through `TopologyTestDriver`, and what came out in the form of an expected result.

Next: `compare`, which says whether a result is that of Kafka Streams.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import cycle, groupby
from typing import Any

from streamlib import Topology, UnstableNameWarning, serdes
from streamlib.config import StreamsConfig
from streamlib.errors import StreamlibError
from streamlib.operators.session_rows import SessionRows
from streamlib.record import Headers
from streamlib.serdes import AnySerde
from streamlib.state.session_keys import split_session_store_key
from streamlib.state.spec import StoreSpec
from streamlib.state.versioned import VersionedStore
from streamlib.state.window import split_window_store_key
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.foreign_key_nodes import SubscriptionReceive
from streamlib.topology.interference import needs_record_order
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.nodes import Sink, Source
from tests.conformance.build import Build
from tests.conformance.expr import JSON, canonical, plain

APPLICATION_ID = "app"

Scenario = Mapping[str, Any]


class Driver:
    """One scenario, from its topology to its result; call `result` once.

    Args:
        scenario: The scenario.
        on_disk: Whether stores that are not asked to be in memory live in RocksDB.
        batch_rows: Take up to so many consecutive records of a topic at once, unless their source wants single ones.
            The Java driver takes one.
        commit_rows: Commit after so many records, and when nothing waits. The Java driver commits after each.
        sizes: How many consecutive records of a topic are delivered together, over and over; instead of ``batch_rows``.
        crashing: Lose the worker and its stores after each step.

    Attributes:
        topology: What the scenario's operations make.
        trace: The records of each repartition and changelog topic.
        record_order: Some source wants its records one by one.
        logged_at_commits: The changelogs that get the last update of each key at a commit, at the wall clock's time.
        largest_run: How many records entered the operators at once, at most.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        on_disk: bool = False,
        batch_rows: int = 1,
        commit_rows: int = 1,
        sizes: Sequence[int] = (),
        crashing: bool = False,
    ) -> None:
        self.trace: dict[str, list[Any]] = {}
        self.largest_run = 0
        self._steps = scenario["steps"]
        self._batch_rows, self._commit_rows = max(batch_rows, *sizes, 1), commit_rows
        self._sizes = cycle(sizes or [max(batch_rows, commit_rows)])
        self._crashing = crashing
        self._inputs, topology = _built(scenario)
        if not on_disk:
            specs = {name: replace(spec, persistent=False) for name, spec in topology.stores.items()}
            topology = replace(topology, stores=specs)
        self.topology = topology
        if _caches(scenario):  # what windows were written is told by their changelogs
            specs = {
                name: replace(spec, logging=spec.logging or spec.kind == "window")
                for name, spec in topology.stores.items()
            }
            topology = replace(topology, stores=specs)
        self._logging = topology
        self._config = _config(scenario)
        self._outputs: list[dict[str, Any]] = []
        sources = [name for name, node in topology.nodes.items() if isinstance(node, Source)]
        self.record_order = any(needs_record_order(topology, name) for name in sources)
        self.logged_at_commits = {
            topology.changelog_topic(name, APPLICATION_ID)
            for name, spec in topology.stores.items()
            if spec.kind == "buffer"
        }
        self._untimed = {
            topology.changelog_topic(name, APPLICATION_ID)
            for name, spec in topology.stores.items()
            if "buffer" in spec.kind
        }
        self._internal = {topic.name for topic in internal_topics(topology, APPLICATION_ID)}
        self._serdes = {
            topology.physical_topic(node.topic, APPLICATION_ID): (node.key_serde, node.value_serde)
            for node in topology.nodes.values()
            if isinstance(node, Sink) and node.topic is not None
        }
        self._subscriptions = {
            node.subscriptions for node in topology.nodes.values() if isinstance(node, SubscriptionReceive)
        }
        self._dynamic = [node for node in topology.nodes.values() if isinstance(node, Sink) and node.topic is None]

    def result(self) -> dict[str, Any]:
        """What came out, in the form of an expected result: outputs, error or stores, dropped."""
        result: dict[str, Any] = {"outputs": self._outputs}
        with TopologyTestDriver(
            self._logging, self._config, batch_rows=self._batch_rows, commit_rows=self._commit_rows
        ) as driver:
            step = -1
            try:
                for step, act in self._acts(driver):
                    if self._crashing and step > 0:
                        driver.crash()
                        driver.restart()
                    try:
                        act()
                    finally:
                        self._show(driver, step)
            except StreamlibError:
                result["error"] = {"step": step}
            else:
                specs = self.topology.stores
                joins = [name for name in specs if specs[name].retain_duplicates]
                windowed = [name for name in joins if specs[name].kind == "window"]
                result["internal_stores"] = {name: self._listed(driver, name, timed=True) for name in windowed}
                public = [name for name in specs if "buffer" not in specs[name].kind and name not in joins]
                listed = {name: self._listed(driver, name) for name in public}
                result["stores"] = {name: rows for name, rows in listed.items() if not self._is_unlisted(name, rows)}
            expired = sum(driver.store(name).expired for name in self.topology.stores) if "error" in result else 0
            result["dropped"] = driver.metrics.total("dropped_records_total") + expired
            self.largest_run = driver.largest_run
            self.trace = {
                topic: [_traced(row, timed=topic not in self._untimed) for row in rows]
                for topic, rows in driver.logs.topics.items()
                if topic in self._internal and rows
            }
        return result

    def _acts(self, driver: TopologyTestDriver) -> Iterator[tuple[int, Any]]:
        """The number of the first step, and what to do, of the steps that are taken together."""
        for topic, group in groupby(enumerate(self._steps), lambda numbered: numbered[1].get("topic")):
            steps = list(group)
            if topic is None:
                for number, step in steps:
                    by = timedelta(milliseconds=step["advance_wall_ms"])
                    yield number, lambda by=by: driver.advance_wall_clock_time(by)
                continue
            while part := steps[: next(self._sizes)]:
                del steps[: len(part)]
                rows = [self._row(step) for _, step in part]
                yield part[0][0], lambda topic=topic, rows=rows: driver.pipe_rows(topic, rows)

    def _row(self, step: Mapping[str, Any]) -> Row:
        keys, values = self._inputs[step["topic"]]
        key, value = keys.serialize_many([step["key"]])[0], values.serialize_many([step.get("value")])[0]
        if "value_hex" in step:
            value = bytes.fromhex(step["value_hex"])
        headers = [(name, None if text is None else text.encode()) for name, text in step.get("headers", [])]
        return Row(key, value, step["ts"], headers)

    def _show(self, driver: TopologyTestDriver, step: int) -> None:
        """Keep what the step has written to topics of users."""
        for topic in sorted(driver.produced_topic_names() - self._internal):
            keys, values = self._serdes.get(topic) or (self._dynamic[0].key_serde, self._dynamic[0].value_serde)
            for record in driver.create_output_topic(topic, keys, values).read_records_to_list():
                output = {
                    "step": step,
                    "topic": topic,
                    "key": record.key,
                    "value": record.value,
                    "ts": record.timestamp_ms,
                }
                if record.headers:
                    output["headers"] = _texts(record.headers)
                self._outputs.append(output)

    def _is_unlisted(self, name: str, rows: list[list[Any]]) -> bool:
        """Whether the oracle leaves out a store: one of subscriptions, if it has some or a generated name."""
        return name in self._subscriptions and (bool(rows) or "SUBSCRIPTION-STATE-STORE" in name)

    def _listed(self, driver: TopologyTestDriver, name: str, *, timed: bool = False) -> list[list[Any]]:
        """The rows as a task finds them that starts again now: those that the engine has."""
        spec, store = self.topology.stores[name], driver.store(name)
        if spec.kind in {"window", "session"} and spec.caching and self._config.statestore_cache_max_bytes > 0:
            rows = driver.task.tables[name]
            if isinstance(rows, SessionRows) and rows.session_cache is not None and not self._crashing:
                return [[_shown_key(spec, key), value] for key, value, _ in rows.session_cache.scan()]
            return self._listed_through_cache(driver, spec)
        if spec.source_topic is None:
            store.discard()
        if isinstance(store, VersionedStore):
            return self._listed_versions(spec, store)
        rows = [[_shown_key(spec, key), value, timestamp] for key, value, timestamp in store.scan()]  # type: ignore
        if spec.exact_expiry:  # as the oracle reads Java's stores in memory
            rows = [[key, value, key["start"]] for key, value, _ in rows]
        return rows if spec.timestamped or timed else [row[:2] for row in rows]

    def _listed_versions(self, spec: StoreSpec, store: VersionedStore) -> list[list[Any]]:
        """All versions, of keys in the order of their JSON.

        Java's store cannot list its keys. The oracle asks for those of the steps, and for those that it can read in the
        changelog as text.
        """
        asked = {canonical(step.get("key")) for step in self._steps}
        logged = self.topology.changelog_topic(spec.name, APPLICATION_ID) in self._internal
        readable = logged and spec.key_serde in {JSON, serdes.STRING}
        keys = {canonical(_shown_key(spec, key)): key for key in store.stored_keys()}
        found = [key for key in sorted(keys, key=_code_units) if readable or key in asked]
        return [[_shown_key(spec, keys[key]), *row] for key in found for row in store.versions(keys[key])]

    def _listed_through_cache(self, driver: TopologyTestDriver, spec: StoreSpec) -> list[list[Any]]:
        """All rows that were ever written: those past retention, too, which Java's store leaves out and its cache not.

        A row that a flush has written stays in Java's cache, marked clean, until memory runs out
        (``NamedCache.flush``), and ``CachingWindowStore.all`` merges the cache with the store.
        """
        topic = self._logging.changelog_topic(spec.name, APPLICATION_ID)
        last = {row.key: row for row in driver.logs.topics[topic or ""] if row.key is not None}
        rows = [
            [_shown_key(spec, key), spec.value_serde.deserialize(row.value), row.timestamp_ms]
            for key, row in last.items()
            if row.value is not None
        ]
        return rows if spec.timestamped else [row[:2] for row in rows]


def names(topology: Topology) -> dict[str, Any]:
    """What a topology has to show, in the form of an expected result."""
    topics = []
    for topic in internal_topics(topology, APPLICATION_ID):
        entry = {"name": topic.name, "kind": topic.kind, "config": dict(topic.configs)}
        topics.append(entry if topic.partitions is None else entry | {"partitions": topic.partitions})
    return {"describe": topology.describe(), "internal_topics": topics}


def _built(scenario: Scenario) -> tuple[Mapping[str, tuple[AnySerde, AnySerde]], Topology]:
    """The serdes of the source topics, and the topology."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        build = Build(dict(scenario))
        return build.inputs, build.topology()


def _caches(scenario: Scenario) -> bool:
    return int(scenario.get("config", {}).get("statestore.cache.max.bytes", 0)) > 0


def _config(scenario: Scenario) -> StreamsConfig:
    settings = scenario.get("config", {})
    return StreamsConfig(
        APPLICATION_ID,
        statestore_cache_max_bytes=int(settings.get("statestore.cache.max.bytes", 0)),
        deserialization_exception_handler="skip" if settings.get("deserialization_handler") == "continue" else "fail",
        processing_exception_handler="skip" if settings.get("processing_handler") == "continue" else "fail",
    )


def _shown_key(spec: StoreSpec, store_key: bytes) -> Any:
    if spec.kind == "session":
        key, start, end = split_session_store_key(store_key)
        return {"key": plain(spec.key_serde.deserialize(key)), "start": start, "end": end}
    if spec.kind != "window":
        return plain(spec.key_serde.deserialize(store_key))
    key, start = split_window_store_key(store_key)
    return {"key": plain(spec.key_serde.deserialize(key)), "start": start}


def _traced(row: Row, *, timed: bool) -> list[Any]:
    """Key and value in hexadecimal digits, the timestamp unless it is the wall clock's, and the headers if any."""
    headers = [[name, _hex(data)] for name, data in row.headers]
    return [_hex(row.key), _hex(row.value), row.timestamp_ms if timed else None, *([headers] if headers else [])]


def _code_units(text: str) -> bytes:
    """What Java orders strings by."""
    return text.encode("utf-16-be")


def _texts(headers: Headers) -> list[list[str | None]]:
    return [[name, None if data is None else data.decode()] for name, data in headers]


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()
