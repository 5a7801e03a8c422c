"""What ``python -m tests.chaos`` does, as much of it as fits into every run of the tests."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.report import EXACTLY_ONCE
from tests.chaos.run import Options, run

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

FIFTY_KILLS = Options(workers=3, records=200_000, kills=50, stops=10, guarantee=EXACTLY_ONCE, seed=20)
FEW_KILLS = replace(FIFTY_KILLS, records=20_000, kills=5, stops=2, guarantee="at_least_once")


@pytest.mark.parametrize("options", [FIFTY_KILLS, FEW_KILLS], ids=lambda options: options.guarantee)
async def test_guarantee_holds_when_workers_are_killed_and_frozen_all_the_time(
    kafka_broker: str, tmp_path: Path, options: Options
) -> None:
    report = await run(options, kafka_broker, tmp_path)
    assert report.failures == {}, report.text()
    assert (report.kills, report.stops) == (options.kills, options.stops)
    assert report.topics["forwarded"].rows >= options.records
