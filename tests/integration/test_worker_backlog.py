"""A worker that finds a long backlog takes no more memory than one that finds a short one, and works it off.

A million records; STREAMLIB_BACKLOG_RECORDS=10000000 is the full size, with the same bound.
"""

import logging
import os
import time

import pytest

from tests.integration.counting import Counting, Worker, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

log = logging.getLogger(__name__)

RECORDS = int(os.environ.get("STREAMLIB_BACKLOG_RECORDS", "1000000"))
SHORT = 50_000
CHUNK = 200_000
PARTITIONS = 4
MORE_BYTES = 100 * 1024 * 1024
"""What a worker may take for prefetched and buffered records, over what it takes anyway."""
RECORDS_PER_SECOND = 10_000
"""Far below what any machine gives: a worker that is slower does not get on."""


def peak_bytes(worker: Worker) -> int:
    """The most memory that the process has had."""
    with open(f"/proc/{worker.process.pid}/status") as status:
        (line,) = [each for each in status if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
async def test_memory_does_not_grow_with_the_backlog_that_a_worker_works_off(app: Counting, guarantee: str) -> None:
    await app.create(PARTITIONS)
    peaks = []
    for records in (SHORT, RECORDS):
        left = records
        while left:
            await app.write(min(left, CHUNK))
            left -= min(left, CHUNK)
        worker = app.worker(f"finds-{records}", state="state", processing_guarantee=guarantee)
        began = time.monotonic()
        await until(lambda worker=worker: len(worker.tasks()) == 2 * PARTITIONS, 30, worker)
        await app.exact(30 + records / RECORDS_PER_SECOND)
        seconds = time.monotonic() - began
        peaks.append(peak_bytes(worker))
        log.info("%d records in %.1f s, %.0f MiB at most", records, seconds, peaks[-1] / 2**20)
        assert await worker.stopped() == 0
    assert peaks[1] < peaks[0] + MORE_BYTES
