"""The flights as records: complete, in order, and equal to what polars computes from the same files."""

import io
import zipfile
from collections import Counter, defaultdict
from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest

from apps import flights_data
from apps.flights_data import AIRLINES, FLIGHTS, PLANES, TABLES_AT_MS, TOPICS, WEATHER, Airline, Flight, Plane, Weather

pytestmark = pytest.mark.slow

HOUR_MS = 3_600_000
SIZES = {FLIGHTS: 336_776, AIRLINES: 16, PLANES: 3_322, WEATHER: 26_115}


@pytest.fixture(scope="module")
def flights() -> list[tuple[str, Flight, int]]:
    decode = msgspec.json.Decoder(Flight).decode
    return [(r.key.decode(), decode(r.value), r.timestamp) for r in flights_data.records(FLIGHTS)]


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    with zipfile.ZipFile(flights_data.data_folder() / "flights.csv.zip") as archive:
        return pl.read_csv(io.BytesIO(archive.read("flights.csv")), null_values=["NA"], infer_schema_length=None)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_is_complete_and_in_order_of_time(topic: str) -> None:
    records = list(flights_data.records(topic))
    timestamps = [record.timestamp for record in records]
    assert len(records) == SIZES[topic]
    assert timestamps == sorted(timestamps)
    assert {record.topic for record in records} == {topic}


def test_tables_come_before_the_first_flight(flights: list[tuple[str, Flight, int]]) -> None:
    stamps = {record.timestamp for topic in (AIRLINES, PLANES) for record in flights_data.records(topic)}
    assert stamps == {TABLES_AT_MS}
    assert flights[0][2] > TABLES_AT_MS


def test_the_first_flight_is_as_in_the_file(flights: list[tuple[str, Flight, int]]) -> None:
    scheduled = datetime(2013, 1, 1, 10, 15, tzinfo=UTC)  # 5:15 in New York
    expected = Flight("UA", 1545, "N14228", "EWR", "IAH", 2, 1400)
    assert flights[0] == ("UA", expected, int(scheduled.timestamp()) * 1000)


def test_keys_are_carriers_tail_numbers_and_airports(flights: list[tuple[str, Flight, int]]) -> None:
    carriers = {record.key.decode() for record in flights_data.records(AIRLINES)}
    assert all(key == flight.carrier for key, flight, _ in flights)
    assert {key for key, _, _ in flights} == carriers
    assert len({record.key for record in flights_data.records(PLANES)}) == SIZES[PLANES]
    assert {record.key for record in flights_data.records(WEATHER)} == {b"EWR", b"JFK", b"LGA"}


def test_unknown_fields_are_null(flights: list[tuple[str, Flight, int]], frame: pl.DataFrame) -> None:
    assert sum(flight.dep_delay is None for _, flight, _ in flights) == 8_255
    assert sum(flight.tailnum is None for _, flight, _ in flights) == frame["tailnum"].null_count() == 2_512
    planes = [msgspec.json.decode(record.value, type=Plane) for record in flights_data.records(PLANES)]
    assert sum(plane.year is None for plane in planes) == 70
    measured = [msgspec.json.decode(record.value, type=Weather) for record in flights_data.records(WEATHER)]
    assert sum(hour.temp is None for hour in measured) == 1


def test_flights_and_mean_delay_per_carrier_are_those_of_polars(
    flights: list[tuple[str, Flight, int]], frame: pl.DataFrame
) -> None:
    delays: defaultdict[str, list[int | None]] = defaultdict(list)
    for carrier, flight, _ in flights:
        delays[carrier].append(flight.dep_delay)
    rows = {}
    for carrier, values in delays.items():
        departed = [value for value in values if value is not None]
        rows[carrier] = (len(values), pytest.approx(sum(departed) / len(departed)))
    table = frame.group_by("carrier").agg(pl.len(), pl.col("dep_delay").mean())
    assert {carrier: (count, mean) for carrier, count, mean in table.iter_rows()} == rows
    assert rows["UA"] == (58_665, pytest.approx(12.106073, abs=1e-6))
    assert sum(count for count, _ in rows.values()) == SIZES[FLIGHTS]


def test_flights_per_airport_and_hour_are_those_of_polars(
    flights: list[tuple[str, Flight, int]], frame: pl.DataFrame
) -> None:
    hours = Counter((flight.origin, timestamp // HOUR_MS) for _, flight, timestamp in flights)
    stamps = pl.col("time_hour").str.to_datetime(time_zone="UTC").dt.epoch("ms") // HOUR_MS
    table = frame.group_by("origin", stamps.alias("hour")).len()
    assert {(origin, hour): count for origin, hour, count in table.iter_rows()} == hours
    assert len(hours) == 19_486


def test_as_many_flights_as_polars_joins_have_a_known_plane(
    flights: list[tuple[str, Flight, int]], frame: pl.DataFrame
) -> None:
    known = {record.key.decode() for record in flights_data.records(PLANES)}
    planes = pl.read_csv(flights_data.data_folder() / "planes.csv", columns=["tailnum"])
    joined = frame.join(planes, on="tailnum", how="inner").height
    assert sum(flight.tailnum in known for _, flight, _ in flights) == joined == 284_170


def test_every_airline_has_its_name() -> None:
    names = {r.key: msgspec.json.decode(r.value, type=Airline).name for r in flights_data.records(AIRLINES)}
    assert names[b"UA"] == "United Air Lines Inc."
    assert all(names.values())


def test_missing_data_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_data, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'streamlib\[demo\]'"):
        next(flights_data.records(FLIGHTS))
