"""A record from the future: told, and treated as the user has said."""

import logging
import time

import pytest

from streamlib import ProcessingError, StreamsBuilder, Topology, serdes
from tests.runtime.conftest import Application

HOUR_MS = 3_600_000


def passing(*, repartitioned: bool = False) -> Topology:
    builder = StreamsBuilder("app")
    stream = builder.stream("in", serdes.STRING, serdes.STRING)
    if repartitioned:
        stream = stream.repartition(name="again")
    stream.to("out")
    return builder.build()


async def feed(app: Application) -> tuple[int, list[tuple[str, str, int]]]:
    now_ms = int(time.time() * 1000)
    hours = {"past": -5.0, "far": 30.0, "near": 0.5}
    rows = [("a", name, now_ms + int(ahead * HOUR_MS)) for name, ahead in hours.items()]
    await app.create(1, "in", "out")
    await app.produce("in", rows)
    return now_ms, rows


async def test_a_record_of_the_future_is_taken_as_it_is_and_told_unless_said_otherwise(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    _, rows = await feed(app)
    with caplog.at_level(logging.WARNING):
        streams = await app.run(passing(), "in")
    assert await app.read("out") == [(key.encode(), value.encode(), at) for key, value, at in rows]
    assert streams.metrics.total("future_records_total", topic="in") == 1
    assert {"stream_time_jump_ms"} <= {name for name, _, _ in streams.metrics}
    assert "a record is 30.0 h ahead of this machine's clock" in caplog.text
    assert f"topic=in partition=0 offset=1 timestamp={rows[1][2]}" in caplog.text


async def test_a_record_of_the_future_becomes_one_of_now_when_times_are_clamped(app: Application) -> None:
    now_ms, rows = await feed(app)
    await app.run(passing(), "in", future_timestamps="clamp")
    times = [at for _, _, at in await app.read("out")]
    assert (times[0], times[2]) == (rows[0][2], rows[2][2])
    assert now_ms <= times[1] <= now_ms + 60_000


async def test_a_record_of_the_future_is_left_out_and_counted_when_the_policy_is_to_skip(app: Application) -> None:
    await feed(app)
    streams = await app.run(passing(), "in", future_timestamps="skip")
    assert [value for _, value, _ in await app.read("out")] == [b"past", b"near"]
    assert streams.metrics.total("dropped_records_total", reason="future-timestamp") == 1


async def test_a_record_of_the_future_stops_the_worker_with_its_place_and_is_not_lost_when_the_policy_is_to_fail(
    app: Application,
) -> None:
    await feed(app)
    with pytest.raises(ProcessingError, match=r"30.0 h ahead .* topic=in partition=0 offset=1 .*future_timestamps"):
        await app.run(passing(), "in", future_timestamps="fail")
    await app.run(passing(), "in", future_timestamps="fail", max_future_skew_ms=31 * HOUR_MS)
    assert [value for _, value, _ in await app.read("out")] == [b"past", b"far", b"near"]


async def test_times_that_the_application_has_made_are_its_own(app: Application) -> None:
    await feed(app)
    topics = ("in", "app-again-repartition")
    streams = await app.run(passing(repartitioned=True), *topics, future_timestamps="accept")
    assert streams.metrics.total("future_records_total") == 1
