"""Names of nodes, stores and topics, sub-topologies and configurations are those of Kafka Streams, in every scenario.

Scenarios that need what the DSL does not have yet are counted in `MISSING`; a new operation makes its numbers smaller.
"""

import json
import warnings
from collections import Counter
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

MISSING = {
    "cogroup": 8,
    "emit": 13,
    "foreign-key join": 18,
    "grace": 4,
    "process": 16,
    "process_values": 7,
    "session window": 21,
    "sliding window": 16,
    "stream-stream join": 43,
    "suppress": 19,
    "table-table join": 34,
    "topology.optimization": 9,
    "unlimited window": 2,
    "versioned": 19,
}
"""What scenarios need, to the number of scenarios that need it (some need several)."""


OTHER_ORDER = {
    "agg-fan-out-keys",
    "agg-fan-out-keys-cached",
    "driver-tie-order-mixed-timestamps",
    "driver-tie-order-several-records",
    "join-fk-inner-named-cached",
    "join-fk-left-named-cached",
    "repartition-flags",
    "repartition-null-keys-left-join-and-count",
    "stateless-headers",
    "stateless-multi-topic-source",
}
"""Where the text of describe() differs in the order of a list, which Java takes from a hash map."""


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


def test_the_text_of_describe_is_that_of_java_when_no_hash_map_decides_its_order() -> None:
    compared = [name for name in SUPPORTED if not refused(name)]
    differing = {name for name in compared if built(name).describe() != expected(name)["describe"]}
    assert differing == OTHER_ORDER


@pytest.mark.parametrize("name", [name for name in SUPPORTED if refused(name)])
def test_a_scenario_is_refused_when_kafka_streams_refuses_it(name: str) -> None:
    with pytest.raises(TopologyError):
        built(name)


def test_every_scenario_is_compared_when_the_dsl_has_what_it_needs() -> None:
    assert Counter(feature for scenario in SCENARIOS.values() for feature in missing(scenario)) == MISSING
    assert (len(SCENARIOS), len(SUPPORTED)) == (303, 112)


def test_a_difference_is_found_when_a_name_changes() -> None:
    result = expected("naming-subtopologies")
    renamed = json.loads(json.dumps(result).replace("KSTREAM-SOURCE-0000000000", "KSTREAM-SOURCE-0000000001"))
    assert differences(result, renamed, NAMES).keys() == {"describe"}
    assert differences(result, result, NAMES) == {}
