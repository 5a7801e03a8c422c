"""What the flights' topology must answer, computed by polars from the same files, and what it did answer."""

import io
import zipfile
from dataclasses import dataclass
from functools import cache

import msgspec
import polars as pl
import pytest

from apps import flights_data
from apps.flights import DELAY_PER_CARRIER, DEPARTURES_PER_HOUR, FLIGHTS_WITH_PLANES, CarrierDelay, FlightWithPlane
from streamlib.cli.demo import batches, latest
from streamlib.transport.base import Admin, Transport

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Answers:
    """The three outputs: (name, flights, mean) of each carrier; departures of each (origin, hour); matched flights."""

    carriers: dict[str, tuple[str, int, float]]
    hours: dict[tuple[str, int], int]
    manufacturers: dict[str, int]
    matches: int


def read_csv(name: str) -> pl.DataFrame:
    path = flights_data.data_folder() / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return pl.read_csv(io.BytesIO(archive.read(path.stem)), null_values=["NA"], infer_schema_length=None)
    return pl.read_csv(path, null_values=["NA"], infer_schema_length=None)


@cache
def expected() -> Answers:
    flights, airlines, planes = (
        read_csv(f"{name}.csv{zipped}")
        for name, zipped in (
            ("flights", ".zip"),
            ("airlines", ""),
            ("planes", ""),
        )
    )
    carriers = (
        flights.group_by("carrier")
        .agg(pl.len().alias("flights"), pl.col("dep_delay").mean())
        .join(airlines, on="carrier")
        .select("carrier", "name", "flights", "dep_delay")
    )
    stamps = pl.col("time_hour").str.to_datetime(time_zone="UTC").dt.epoch("ms") // HOUR_MS
    hours = flights.group_by("origin", stamps.alias("hour")).len()
    joined = flights.join(planes, on="tailnum", how="inner")
    return Answers(
        {carrier: (name, count, mean) for carrier, name, count, mean in carriers.iter_rows()},
        {(origin, hour): count for origin, hour, count in hours.iter_rows()},
        dict(joined.group_by("manufacturer").len().iter_rows()),
        joined.height,
    )


async def answered(transport: Transport, admin: Admin) -> Answers:
    """What is in the output topics; a flight that was written twice (at-least-once) counts once."""
    delays = {
        key.decode(): msgspec.json.decode(value, type=CarrierDelay)
        for key, value in (await latest(transport, admin, DELAY_PER_CARRIER)).items()
    }
    hours = await latest(transport, admin, DEPARTURES_PER_HOUR)
    decode = msgspec.json.Decoder(FlightWithPlane).decode
    seen: dict[tuple[bytes, int, bytes], FlightWithPlane] = {}
    async for batch in batches(transport, admin, FLIGHTS_WITH_PLANES):
        for key, value, timestamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
            seen[key, timestamp, value] = decode(value)
    manufacturers: dict[str, int] = {}
    for flight in seen.values():
        manufacturers[flight.manufacturer] = manufacturers.get(flight.manufacturer, 0) + 1
    return Answers(
        {key: (row.airline, row.flights, row.mean_delay_minutes or 0.0) for key, row in delays.items()},
        {
            (key[:-8].decode(), int.from_bytes(key[-8:]) // HOUR_MS): int.from_bytes(value)
            for key, value in hours.items()
        },
        manufacturers,
        len(seen),
    )


def check(answers: Answers) -> None:
    """Every figure is that of polars."""
    check_carriers(answers)
    check_matches(answers)
    assert answers.hours == expected().hours


def check_carriers(answers: Answers) -> None:
    """The table of carriers is that of polars."""
    assert answers.carriers == {
        carrier: (name, flights, pytest.approx(mean, rel=1e-12))
        for carrier, (name, flights, mean) in expected().carriers.items()
    }
    assert answers.carriers["UA"][1:] == (58_665, pytest.approx(12.106073, abs=1e-6))
    assert sum(flights for _, flights, _ in answers.carriers.values()) == 336_776


def check_matches(answers: Answers) -> None:
    """The flights with a known plane are those that polars joins."""
    assert answers.matches == expected().matches == 284_170
    assert answers.manufacturers == expected().manufacturers
