"""Names of nodes, stores and topics, sub-topologies and configurations are those of Kafka Streams, in all scenarios."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from streamlib import Topology, TopologyError, UnstableNameWarning
from tests.conformance.build import Build, missing
from tests.conformance.compare import NAMES, differences
from tests.conformance.driver import names

FOLDER = Path(__file__).parent / "scenarios"
SCENARIOS = {
    path.stem: json.loads(path.read_text())
    for path in sorted(FOLDER.glob("*.json"))
    if not path.name.endswith(".expected.json")
}
SUPPORTED = [name for name, scenario in SCENARIOS.items() if not missing(scenario)]


def expected(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((FOLDER / f"{name}.expected.json").read_text())
    return result


def built(name: str) -> Topology:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        return Build(SCENARIOS[name]).topology()


def refused(name: str) -> bool:
    return bool(expected(name).get("error", {}).get("step") == -1)


@pytest.mark.parametrize("name", [name for name in SUPPORTED if not refused(name)])
def test_names_are_those_of_kafka_streams_when_a_scenario_is_built(name: str) -> None:
    assert differences(expected(name), names(built(name)), NAMES) == {}


def sorted_lists(text: str) -> list[str]:
    """The lines, each list in them sorted: Java takes its order from a hash map and from how far it has come."""
    names = re.compile(r"[^\s,\[\]()]+(?:, [^\s,\[\]()]+)+")
    return [names.sub(lambda found: ", ".join(sorted(found[0].split(", "))), line) for line in text.splitlines()]


def test_the_text_of_describe_is_that_of_java_but_for_the_order_of_lists() -> None:
    compared = [name for name in SUPPORTED if not refused(name)]
    theirs = {name: sorted_lists(expected(name)["describe"]) for name in compared}
    assert {name: sorted_lists(built(name).describe()) for name in compared} == theirs
    exactly = [name for name in compared if built(name).describe() == expected(name)["describe"]]
    assert len(exactly) > len(compared) * 2 // 3


@pytest.mark.parametrize("name", [name for name in SUPPORTED if refused(name)])
def test_a_scenario_is_refused_when_kafka_streams_refuses_it(name: str) -> None:
    with pytest.raises((TopologyError, ValueError)):  # the latter from definitions of windows
        built(name)


def test_every_scenario_is_compared_since_the_dsl_has_what_it_needs() -> None:
    assert {name: missing(scenario) for name, scenario in SCENARIOS.items() if missing(scenario)} == {}
    assert len(SCENARIOS) == len(SUPPORTED) == 360


def test_a_difference_is_found_when_a_name_changes() -> None:
    result = expected("naming-subtopologies")
    renamed = json.loads(json.dumps(result).replace("KSTREAM-SOURCE-0000000000", "KSTREAM-SOURCE-0000000001"))
    assert differences(result, renamed, NAMES).keys() == {"describe"}
    assert differences(result, result, NAMES) == {}
