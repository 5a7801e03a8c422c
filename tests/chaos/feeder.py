"""Writes the input, never further than it is let."""

import asyncio
from collections.abc import Callable

from aiokafka import AIOKafkaProducer

from tests.chaos.load import KEY_BYTES, PARTITIONS, Load
from tests.chaos.topology import INPUTS, topic

CHUNK = 10_000
PAUSE_SECONDS = 0.05


async def feed(
    broker: str, application: str, load: Load, allowed: Callable[[], int], stop: asyncio.Event | None = None
) -> int:
    """Write the records of both inputs in their order; how many there are now on the left.

    Args:
        broker: Its address.
        application: The first part of the topics' names.
        load: What to write.
        allowed: How many records may be written by now.
        stop: Ends it before everything is written.
    """
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True, max_batch_size=512 * 1024)
    await producer.start()
    try:
        written = 0
        while written < load.records and not (stop is not None and stop.is_set()):
            end = min(load.records, allowed(), written + CHUNK)
            if end > written:
                for side in INPUTS:
                    await _write(producer, topic(application, side), load, range(written, end), side == "right")
                written = end
            if end == allowed():
                await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await producer.stop()
    return written


async def _write(producer: AIOKafkaProducer, name: str, load: Load, numbers: range, right: bool) -> None:
    batches = [producer.create_batch() for _ in range(PARTITIONS)]
    for number in numbers:
        if not right or load.on_the_right(number):
            key = KEY_BYTES[load.key_number(number)]
            taken = batches[number % PARTITIONS].append(
                key=key, value=load.value(number), timestamp=load.time_ms(number)
            )
            assert taken is not None, "a chunk fits into a batch"
    sent = [
        await producer.send_batch(batch, name, partition=partition)
        for partition, batch in enumerate(batches)
        if batch.record_count()
    ]
    await asyncio.gather(*sent)
