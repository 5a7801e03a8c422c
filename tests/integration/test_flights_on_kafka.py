"""The flights on a real Kafka with three worker processes, one of which is killed half-way."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from apps import flights_data
from streamlib.cli.demo import load, uncommitted
from streamlib.kafka_streams import connect
from streamlib.transport.base import Admin
from tests.apps.flights_expected import answered, check

APPLICATION = "flights"
DEADLINE_SECONDS = 120
COMMIT_MS = 2_000


class Workers:
    """Worker processes, each with its own state directory."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = self._process(name, log)

    def _process(self, name: str, log: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "streamlib",
                "worker",
                "streamlib.demo_apps.flights:topology",
                "--broker",
                self.broker,
                "--state-dir",
                str(self.folder / name),
                "--set",
                f"commit_interval_ms={COMMIT_MS}",
                "--set",
                "session_timeout_ms=6000",
                "--set",
                "heartbeat_interval_ms=500",
                "--set",
                "max_poll_records=500",
            ],
            cwd=self.folder,
            stdout=log,
            stderr=log,
        )

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))

    def stop(self) -> dict[str, int]:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        return {name: process.wait(timeout=40) for name, process in self.processes.items()}


async def committed(admin: Admin) -> int:
    return sum(held.offset for tp, held in (await admin.group_offsets(APPLICATION)).items() if tp.topic == "flights")


async def wait_for_commit(admin: Admin, at_least: int, workers: Workers) -> int:
    """Return right after a commit that brings the flights beyond ``at_least``."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (now := await committed(admin)) < at_least:
        assert time.monotonic() < deadline, workers.logs()
        await asyncio.sleep(0.005)
    return now


@pytest.mark.kafka
@pytest.mark.slow
async def test_three_workers_of_which_one_is_killed_give_the_same_table(kafka_broker: str, tmp_path: Path) -> None:
    transport = connect(f"kafka://{kafka_broker}")
    await transport.start()
    admin = await transport.admin()
    workers = Workers(f"kafka://{kafka_broker}", tmp_path)
    try:
        await load(transport, admin, flights_data)
        for name in ("one", "two", "three"):
            workers.start(name)
        # At-least-once promises no duplicates but across a crash between a changelog write and its commit, a few
        # milliseconds of each interval. The kill comes right after a commit, so that the table must be exact.
        await wait_for_commit(admin, 100_000, workers)
        victim = workers.processes.pop("two")
        victim.kill()
        victim.wait()
        assert await committed(admin) < 336_776, "the kill came too late"
        deadline = time.monotonic() + DEADLINE_SECONDS
        while await uncommitted(admin, APPLICATION) != 0:
            assert time.monotonic() < deadline, workers.logs()
            assert all(process.poll() is None for process in workers.processes.values()), workers.logs()
            await asyncio.sleep(0.2)
        assert set(workers.stop().values()) == {0}, workers.logs()
        check(await answered(transport, admin))
    finally:
        for process in workers.processes.values():
            process.kill()
            process.wait()
        await admin.close()
        await transport.close()
