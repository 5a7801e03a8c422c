"""Random scenarios are the same for the same seed, and have everything that scenarios know."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.expr import FUNCTIONS
from tests.conformance.generate import main, scenario
from tests.conformance.random_topology import FAMILIES

GENERATED = [scenario(1, number, None) for number in range(200)]

OPERATIONS = {
    *("aggregate", "cogroup", "count", "filter", "filter_not", "flat_map", "flat_map_values", "global_table"),
    *("group_by", "group_by_key", "join", "left_join", "map", "map_values", "merge", "outer_join", "process"),
    *("process_values", "reduce", "repartition", "select_key", "split", "stream", "suppress", "table", "to"),
    *("to_stream", "to_table", "windowed_by"),
}
MEMBERS = {
    *("caching", "default", "emit", "fk", "grace", "logging", "materialize", "max_bytes", "max_records", "merger"),
    *("name", "partitions", "retention", "store", "store_type", "subtractor", "topic_fn", "topics", "ts", "versioned"),
}
PROCESSORS = {"buffer_flush", "dedup", "header", "lookup", "meta", "running_total", "timestamp"}
WINDOWS = {"hopping", "session", "sliding", "tumbling", "unlimited"}
STEPS = {"advance_wall_ms", "headers", "key", "topic", "ts", "value", "value_hex"}
CONFIG = {
    *("deserialization_handler", "processing_handler", "statestore.cache.max.bytes", "stores"),
    "topology.optimization",
}


def functions(value: Any) -> Iterator[str]:
    """The names of all functions in expressions."""
    if isinstance(value, dict):
        if isinstance(value.get("fn"), str) and "in" not in value:  # else an operation's own, which may be a variable
            yield value["fn"]
        for member in value.values():
            yield from functions(member)
    elif isinstance(value, list):
        for element in value:
            yield from functions(element)


def test_files_are_the_same_when_the_seed_is(tmp_path: Path) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert main([str(tmp_path / folder), "--seed", str(seed), "--count", "12"]) == 0
    first, second, other = ([path.read_text() for path in sorted((tmp_path / name).iterdir())] for name in "abc")
    assert first == second
    assert len(set(first) | set(other)) == 24


def test_every_operation_appears_within_200_scenarios() -> None:
    operations = [op for made in GENERATED for op in made["topology"]]
    assert {op["op"] for op in operations} == OPERATIONS
    assert {member for op in operations for member in op} >= MEMBERS
    assert {op["processor"] for op in operations if "processor" in op} == PROCESSORS
    assert {op["window"]["type"] for op in operations if op["op"] == "windowed_by"} == WINDOWS
    assert {member for made in GENERATED for step in made["steps"] for member in step} == STEPS
    assert {member for made in GENERATED for member in made.get("config", {})} == CONFIG
    assert set(functions(operations)) == {*FUNCTIONS, "if", "const", "obj"}


def test_topics_are_written_and_read_within_200_scenarios() -> None:
    both = 0
    for made in GENERATED:
        read = {
            topic for op in made["topology"] if op["op"] != "to" for topic in [op.get("topic"), *op.get("topics", [])]
        }
        both += any(op["op"] == "to" and op.get("topic") in read for op in made["topology"])
    assert both >= 10


@pytest.mark.parametrize("only", sorted(FAMILIES))
def test_a_family_gives_scenarios_that_are_json_when_it_is_asked_for(only: str) -> None:
    made = [scenario(2, number, only) for number in range(10)]
    assert json.loads(json.dumps(made)) == made
    assert len({json.dumps(each["topology"]) for each in made}) == 10
