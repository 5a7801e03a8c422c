"""The flights on a real Kafka with three worker processes, one of which is killed half-way."""

import asyncio
import re
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
from tests.apps.flights_expected import answered, check_carriers, check_matches, expected

APPLICATION = "flights"
DEADLINE_SECONDS = 120
COMMIT_MS = 2_000
FLIGHTS = 336_776


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

    def partitions(self, name: str) -> set[int]:
        """Partitions of the flights that a worker was last given: those of its tasks of sub-topology 0."""
        return {int(task) for task in re.findall(r"\b0_(\d+)", self._last_assignment(name))}

    def all_have_tasks(self) -> bool:
        return all(re.search(r"\d_\d", self._last_assignment(name)) for name in self.processes)

    def _last_assignment(self, name: str) -> str:
        lines = [line for line in (self.folder / f"{name}.log").read_text().splitlines() if "assigned tasks:" in line]
        return lines[-1].partition("assigned tasks:")[2] if lines else ""

    def stop(self) -> dict[str, int]:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        return {name: process.wait(timeout=40) for name, process in self.processes.items()}


async def committed(admin: Admin) -> dict[int, int]:
    """Committed offset of each partition of the flights."""
    held = await admin.group_offsets(APPLICATION)
    return {tp.partition: at.offset for tp, at in held.items() if tp.topic == flights_data.FLIGHTS}


async def wait_for_a_commit(admin: Admin, workers: Workers) -> str:
    """The worker that has just committed flights, once a third of them is committed and all workers have tasks."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    before: dict[int, int] = {}
    while True:
        now = await committed(admin)
        moved = {partition for partition in now if before.get(partition, 0) < now[partition]}
        committing = [name for name in workers.processes if moved & workers.partitions(name)]
        if sum(now.values()) > FLIGHTS // 3 and committing and workers.all_have_tasks():
            return committing[0]
        before = now
        assert time.monotonic() < deadline, workers.logs()
        await asyncio.sleep(0.005)


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
        # At-least-once repeats what a killed worker did since its last commit. The kill comes right after a commit, so
        # the table, which reaches its changelog at commits only, must be exact. What has left through a topic since
        # then is written twice: flights with planes, and departures, which are counted behind a repartition topic.
        victim = workers.processes.pop(await wait_for_a_commit(admin, workers))
        victim.kill()
        victim.wait()
        assert sum((await committed(admin)).values()) < FLIGHTS * 0.9, "the kill came too late"
        deadline = time.monotonic() + DEADLINE_SECONDS
        while await uncommitted(admin, APPLICATION) != 0:
            assert time.monotonic() < deadline, workers.logs()
            assert all(process.poll() is None for process in workers.processes.values()), workers.logs()
            await asyncio.sleep(0.2)
        assert set(workers.stop().values()) == {0}, workers.logs()
        answers = await answered(transport, admin)
        check_carriers(answers)
        check_matches(answers)
        wanted = expected().hours
        assert answers.hours.keys() == wanted.keys()
        lost = {hour: (answers.hours[hour], wanted[hour]) for hour in wanted if answers.hours[hour] < wanted[hour]}
        assert lost == {}, workers.logs()
    finally:
        for process in workers.processes.values():
            process.kill()
            process.wait()
        await admin.close()
        await transport.close()
