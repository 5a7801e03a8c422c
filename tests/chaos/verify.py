"""Reads what came out as anybody would read it, with a plain client, and has it judged.

Shares nothing with the library but the names of topics. Next: `checks`.
"""

import asyncio
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.chaos.checks import Check, Findings, checks
from tests.chaos.load import PARTITIONS, Load
from tests.chaos.topology import SINKS, STORES, topic

log = logging.getLogger(__name__)

PROCESSES = 2


async def verified(broker: str, application: str, load: Load) -> dict[str, Findings]:
    """What is wrong with each sink and changelog, by the end of its name."""
    together = [[sink, f"{sink}-changelog"] if sink in STORES else [sink] for sink in SINKS]
    loop, fresh = asyncio.get_running_loop(), replace(load)  # what it has cached cannot be sent
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        judged = [loop.run_in_executor(pool, judge, broker, application, fresh, names) for names in together]
        found = {name: findings for each in await asyncio.gather(*judged) for name, findings in each.items()}
    for name, findings in found.items():
        log.info("%s: %s", name, findings)
    return found


def judge(broker: str, application: str, load: Load, names: Sequence[str]) -> dict[str, Findings]:
    """What is wrong with some topics, to be called in a process of its own: a changelog comes after its sink."""
    return asyncio.run(_judged(broker, application, load, names))


async def _judged(broker: str, application: str, load: Load, names: Sequence[str]) -> dict[str, Findings]:
    found, all_ = {}, checks(load)
    for name in names:
        await _read(broker, topic(application, name), all_[name])
        all_[name].finish()
        found[name] = all_[name].findings
    return found


async def _read(broker: str, name: str, check: Check) -> None:
    """Give a check every committed record of a topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(name, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(tps)
        consumer.assign(tps)
        left = {tp for tp in tps if ends[tp] > 0}
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=200, max_records=20_000)).values():
                check.findings.rows += len(records)
                for record in records:
                    check.take(record.key, record.value)
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()


async def open_transactions(broker: str, partitions: Mapping[str, int]) -> int:
    """How many partitions hold records that are neither committed nor aborted.

    Args:
        broker: Its address.
        partitions: Partition counts of the topics to look at.
    """
    tps = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
    ends = []
    for level in ("read_committed", "read_uncommitted"):
        consumer = AIOKafkaConsumer(bootstrap_servers=broker, isolation_level=level, enable_auto_commit=False)
        await consumer.start()
        try:
            ends.append(await consumer.end_offsets(tps))
        finally:
            await consumer.stop()
    stable, all_ = ends
    return sum(stable[tp] < end for tp, end in all_.items())
