"""``streamlib demo`` as its users run it: a process, the embedded broker, the production worker."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamlib.kafka_streams import connect
from tests.apps.flights_expected import answered, check


@pytest.mark.slow
def test_every_figure_of_the_demo_is_that_of_polars(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "streamlib", "demo", "--keep", str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert told.returncode == 0, told.stderr
    united = next(line for line in told.stdout.splitlines() if "United Air Lines" in line)
    assert united.split() == ["UA", "United", "Air", "Lines", "Inc.", "58665", "12.106073"]
    assert "336,776" in told.stdout
    assert "284,170 flights matched with their plane" in told.stdout
    asyncio.run(check_outputs(f"local:{tmp_path / 'kept' / 'broker'}"))


async def check_outputs(address: str) -> None:
    transport = connect(address)
    await transport.start()
    admin = await transport.admin()
    check(await answered(transport, admin))
    await admin.close()
    await transport.close()
