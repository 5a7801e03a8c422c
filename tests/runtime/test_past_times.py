"""Old events: brokers delete rows of windows by the time of events, so a worker says so before it is too late."""

import asyncio
import logging
import time
from datetime import timedelta

import pytest

from streamlib import SessionWindows, StreamsBuilder, TimeWindows, Topology, serdes
from tests.runtime.conftest import Application

TEXT = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}
DAY_MS = 86_400_000
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlib.runtime.past_times.SECONDS", 0.02)


def windowed() -> Topology:
    builder = StreamsBuilder("old")
    grouped = builder.stream("in", **TEXT).group_by_key()
    grouped.windowed_by(TimeWindows.of(MINUTE, grace=timedelta(0))).count(store="minutes")
    grouped.windowed_by(SessionWindows.of(MINUTE, grace=timedelta(0))).count(store="visits")
    grouped.count(store="counts")
    return builder.build()


async def told(app: Application, caplog: pytest.LogCaptureFixture, age_ms: int, **settings: int) -> list[str]:
    """What is told of events so old."""
    await app.create(1, "in")
    begin = int(time.time() * 1000) - age_ms
    with caplog.at_level(logging.WARNING, "streamlib.runtime.past_times"):
        async with app.streams(windowed(), **settings) as streams:
            for portion in range(3):
                await app.produce("in", [("k", "v", begin + portion)])
                await app.drained(streams, "in")
                await asyncio.sleep(0.1)  # several looks
    return [record.getMessage() for record in caplog.records if record.name == "streamlib.runtime.past_times"]


async def test_changelogs_that_brokers_delete_by_age_are_named_when_events_lie_in_the_past(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sorted(await told(app, caplog, 30 * DAY_MS))
    assert "events lie 30.0 days in the past" in first
    assert "old-minutes-changelog for 1.0 days" in first
    assert "old-visits-changelog for 1.0 days" in second
    assert f"Raise the topic's retention.ms to more than {30 * DAY_MS // 1_000_000}" in first


async def test_nothing_is_told_when_changelogs_are_kept_for_long_enough(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    longer = 31 * DAY_MS
    assert await told(app, caplog, 30 * DAY_MS, windowstore_changelog_additional_retention_ms=longer) == []


async def test_nothing_is_told_when_events_are_of_now(app: Application, caplog: pytest.LogCaptureFixture) -> None:
    assert await told(app, caplog, DAY_MS // 2) == []


@pytest.mark.parametrize(("kept_days", "set_days", "warnings"), [(40, 1, 0), (2, 40, 2)])
async def test_what_the_topic_says_counts_when_it_differs_from_the_settings(
    app: Application, caplog: pytest.LogCaptureFixture, kept_days: int, set_days: int, warnings: int
) -> None:
    configs = {"cleanup.policy": "compact,delete", "retention.ms": str(kept_days * DAY_MS)}
    await app.create(1, "old-minutes-changelog", "old-visits-changelog", **configs)
    settings = {"windowstore_changelog_additional_retention_ms": set_days * DAY_MS}
    assert len(await told(app, caplog, 30 * DAY_MS, **settings)) == warnings
