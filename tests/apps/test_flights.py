"""The flights' topology: its functions, and what it reads and writes."""

import pytest

from apps.flights import (
    DELAY_PER_CARRIER,
    DEPARTURES_PER_HOUR,
    FLIGHTS_WITH_PLANES,
    CarrierDelay,
    DelayTotals,
    add_flight,
    carrier_delay,
    topology,
    with_plane,
)
from apps.flights_data import AIRLINES, FLIGHTS, PLANES, Airline, Flight, Plane
from streamlib.topology.nodes import Sink

UNITED = Airline("United Air Lines Inc.")


def flight(delay: int | None) -> Flight:
    return Flight("UA", 1545, "N14228", "EWR", "IAH", delay, 1400)


def test_a_cancelled_flight_counts_and_is_left_out_of_the_mean() -> None:
    totals = DelayTotals()
    for delay in (10, None, -4):
        totals = add_flight("UA", flight(delay), totals)
    assert totals == DelayTotals(flights=3, departed=2, delay_minutes=6)
    assert carrier_delay(totals, UNITED) == CarrierDelay("United Air Lines Inc.", 3, 3.0)


def test_there_is_no_mean_when_nothing_has_departed() -> None:
    assert carrier_delay(add_flight("UA", flight(None), DelayTotals()), UNITED).mean_delay_minutes is None


def test_totals_are_not_changed_in_place() -> None:
    before = DelayTotals()
    add_flight("UA", flight(5), before)
    assert before == DelayTotals()


def test_a_flight_gets_the_plane_that_flies_it() -> None:
    joined = with_plane(flight(0), Plane("BOEING", "737-824", 1999, 149))
    assert (joined.flight, joined.manufacturer, joined.year) == (flight(0), "BOEING", 1999)


def test_the_topology_reads_three_topics_and_writes_three() -> None:
    sources = {topic for part in topology.subtopologies for topic in part.source_topics}
    sinks = {node.topic for node in topology.nodes.values() if isinstance(node, Sink)}
    assert sources - set(topology.repartition_topics) == {FLIGHTS, AIRLINES, PLANES}
    assert sinks - set(topology.repartition_topics) == {DELAY_PER_CARRIER, DEPARTURES_PER_HOUR, FLIGHTS_WITH_PLANES}


@pytest.mark.parametrize("store", ["airlines", "planes", "delay-totals", "departures"])
def test_every_store_has_a_name_that_does_not_move(store: str) -> None:
    assert store in topology.stores
    assert len(topology.stores) == 4
