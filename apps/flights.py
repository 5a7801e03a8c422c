"""Delays and departures of the flights that left New York in 2013, in three output topics.

``delay-per-carrier``: flights and mean departure delay of each carrier, with the airline's name (an aggregation, then a
join with a global table). ``departures-per-hour``: scheduled departures of each airport in each hour (a tumbling
window). ``flights-with-planes``: each flight with what flies it (a stream-table join). The input is in
`apps/flights_data`. Run: ``streamlib worker apps.flights:topology``.
"""

from datetime import timedelta

import msgspec

from streamlib import StreamsBuilder, TimeWindows, serdes

from .flights_data import AIRLINES, FLIGHTS, PLANES, Airline, Flight, Plane

DELAY_PER_CARRIER, DEPARTURES_PER_HOUR, FLIGHTS_WITH_PLANES = (
    "delay-per-carrier",
    "departures-per-hour",
    "flights-with-planes",
)


class DelayTotals(msgspec.Struct, frozen=True):
    """What is summed up per carrier.

    Attributes:
        flights: All flights, cancelled ones too.
        departed: Flights whose delay is known.
        delay_minutes: The sum of the known delays.
    """

    flights: int = 0
    departed: int = 0
    delay_minutes: int = 0


class CarrierDelay(msgspec.Struct, frozen=True):
    """One carrier's flights and mean departure delay; the mean is None until a flight has departed."""

    airline: str
    flights: int
    mean_delay_minutes: float | None


class FlightWithPlane(msgspec.Struct, frozen=True):
    """A flight, and who built its plane and when."""

    flight: Flight
    manufacturer: str
    model: str
    year: int | None


def add_flight(_carrier: str, flight: Flight, totals: DelayTotals) -> DelayTotals:
    """The totals with one more flight; one without a delay (cancelled) counts as a flight and not in the mean."""
    if flight.dep_delay is None:
        return DelayTotals(totals.flights + 1, totals.departed, totals.delay_minutes)
    return DelayTotals(totals.flights + 1, totals.departed + 1, totals.delay_minutes + flight.dep_delay)


def carrier_delay(totals: DelayTotals, airline: Airline) -> CarrierDelay:
    """The totals as a mean, under the airline's name."""
    mean = totals.delay_minutes / totals.departed if totals.departed else None
    return CarrierDelay(airline.name, totals.flights, mean)


def with_plane(flight: Flight, plane: Plane) -> FlightWithPlane:
    """The flight and its plane."""
    return FlightWithPlane(flight, plane.manufacturer, plane.model, plane.year)


builder = StreamsBuilder("flights")
flights = builder.stream(FLIGHTS, key_serde=serdes.STRING, value_serde=serdes.json(Flight))
airlines = builder.global_table(AIRLINES, key_serde=serdes.STRING, value_serde=serdes.json(Airline), store="airlines")
planes = builder.table(PLANES, key_serde=serdes.STRING, value_serde=serdes.json(Plane), store="planes")

(
    flights.group_by_key()
    .aggregate(DelayTotals, add_flight, store="delay-totals", value_serde=serdes.json(DelayTotals))
    .to_stream()
    .join(airlines, carrier_delay, key_selector=lambda carrier, _: carrier, name="with-airline")
    .to(DELAY_PER_CARRIER, key_serde=serdes.STRING, value_serde=serdes.json(CarrierDelay))
)
(
    # A backlog is read faster from some partitions than from others: with a grace of a year no hour is closed early.
    flights.group_by(lambda _, flight: flight.origin, name="by-origin", key_serde=serdes.STRING)
    .windowed_by(TimeWindows.of(timedelta(hours=1), grace=timedelta(days=366)))
    # The changelog keeps event times, of 2013: a broker that deletes by age would take them for old at once.
    .count(store="departures", topic_configs={"retention.ms": "-1"})
    .to_stream()
    .to(DEPARTURES_PER_HOUR)
)
(
    flights.filter(lambda _, flight: flight.tailnum is not None, name="has-tailnum")
    .select_key(lambda _, flight: flight.tailnum or "", name="by-tailnum")
    .join(planes, with_plane, name="with-plane")
    .to(FLIGHTS_WITH_PLANES, key_serde=serdes.STRING, value_serde=serdes.json(FlightWithPlane))
)
topology = builder.build()
