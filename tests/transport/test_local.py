"""The local broker among processes: who may work, what others see, what a kill leaves behind."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest

from streamlib.errors import BrokerLockedError, BrokerUnavailableError, CommitError, DeliveryError, TransportError
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata, TopicSpec
from streamlib.transport.local.transport import DATABASE_FILE, LocalTransport

TP = TopicPartition("t", 0)
OUT = TopicPartition("out", 0)

PREAMBLE = """
import asyncio, sys
from pathlib import Path
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupOptions, OffsetAndMetadata, TopicSpec
from streamlib.transport.local.transport import LocalTransport

TP, OUT = TopicPartition("t", 0), TopicPartition("out", 0)

class Listener:
    def __init__(self):
        self.group = None
    async def on_revoked(self, partitions):
        pass
    async def on_assigned(self, partitions, group):
        self.group = group

class Assignor:
    name = "all"
    def subscription(self):
        return b""
    def assign(self, partitions, members):
        every = [TopicPartition(topic, p) for topic in partitions for p in range(partitions[topic])]
        return {member: (every, b"") for member in members}
    def assigned(self, partitions, user_data):
        pass

async def joined(transport):
    listener = Listener()
    consumer = transport.consumer(GroupOptions("g", frozenset({"t"}), Assignor(), listener))
    await consumer.start()
    while listener.group is None:
        await consumer.poll((), max_records=1, timeout_ms=10)
    return consumer, listener.group

async def main(transport):
"""

WORKER = """
    consumer, group = await joined(transport)
    print("ready", flush=True)
    await asyncio.sleep(60)
"""

TRANSACTIONS = """
    consumer, group = await joined(transport)
    producer = transport.producer("tx")
    await producer.start()
    for number in range(1_000_000):
        await producer.begin()
        producer.append(TP, [b"k"] * 20, [b"%d" % number] * 20, [1] * 20)
        producer.append(OUT, [b"k"] * 20, [b"%d" % number] * 20, [1] * 20)
        if number % 3 == 0:
            await producer.flush()
        await producer.send_offsets({TP: OffsetAndMetadata(number + 1)}, group)
        await producer.commit()
        print(number, flush=True)
"""

APPENDS = """
    producer = transport.producer()
    await producer.start()
    for number in range(1_000_000):
        producer.append(TP, [b"k"] * 50, [b"%d" % number] * 50, [1] * 50)
        await producer.flush()
        print(number, flush=True)
"""

OPENING = """
    admin = await transport.admin()
    await admin.create_topics([TopicSpec("made-by-%s" % sys.argv[2], 1)])
    await transport.close()
    print("done", flush=True)
"""


@contextmanager
def process(body, directory, *arguments):
    """Another process at work on the directory; killed at the end."""
    source = PREAMBLE + textwrap.indent(textwrap.dedent(body), "    ")
    source += "\nasync def run():\n    transport = LocalTransport(Path(sys.argv[1]))\n    await transport.start()\n"
    source += "    await main(transport)\n\nasyncio.run(run())\n"
    command = [sys.executable, "-c", source, str(directory), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "broker"


@pytest.fixture
async def local(directory):
    transport = LocalTransport(directory)
    await transport.start()
    admin = await transport.admin()
    await admin.create_topics([TopicSpec("t", 1), TopicSpec("out", 1)])
    yield transport
    await transport.close()


async def read_all(transport, tp):
    """All committed values of a partition, in order."""
    consumer = transport.consumer()
    consumer.assign({tp: 0})
    values = []
    while batches := await consumer.poll([tp], max_records=10_000, timeout_ms=0):
        values += batches[tp].values
    return values


@pytest.mark.slow
async def test_second_worker_is_refused_with_directory_pid_and_mend_when_another_runs(local, directory, new_member):
    with process(WORKER, directory) as worker:
        assert worker.stdout.readline() == "ready\n"
        member = new_member(local, "g", ["t"], "second")
        with pytest.raises(BrokerLockedError, match="one at a time") as refused:
            await member.consumer.start()
        assert str(directory) in str(refused.value)
        assert str(worker.pid) in str(refused.value)


@pytest.mark.slow
async def test_next_worker_may_start_when_the_last_was_killed(local, directory, new_member):
    with process(WORKER, directory) as worker:
        assert worker.stdout.readline() == "ready\n"
    member = new_member(local, "g", ["t"], "next")
    await member.consumer.start()
    await member.wait_owned([TP])
    await member.consumer.close()


async def test_next_worker_may_start_when_the_last_has_closed(local, directory, new_member):
    other = LocalTransport(directory)
    await other.start()
    first, second = new_member(local, "g", ["t"], "first"), new_member(other, "g", ["t"], "second")
    await first.consumer.start()
    with pytest.raises(BrokerLockedError, match=str(os.getpid())):
        await second.consumer.start()
    await first.consumer.close()
    await second.consumer.start()
    await second.consumer.close()
    await other.close()


@pytest.mark.slow
async def test_others_see_the_group_and_may_not_change_it_when_a_worker_runs(local, directory):
    admin = await local.admin()
    with process(WORKER, directory) as worker:
        assert worker.stdout.readline() == "ready\n"
        described = await admin.describe_group("g")
        assert (described.state, list(described.members)) == ("Stable", [f"process-{worker.pid}"])
        assert await admin.groups() == ["g"]
        with pytest.raises(CommitError, match="group=g"):
            await admin.set_group_offsets("g", {TP: OffsetAndMetadata(0)})
    assert (await admin.describe_group("g")).state == "Dead"


async def test_records_of_another_process_are_seen_soon_when_polling(local, directory):
    consumer = local.consumer()
    consumer.assign({TP: 0})
    other = LocalTransport(directory)
    await other.start()
    producer = other.producer()
    await producer.start()
    polling = asyncio.create_task(consumer.poll([TP], max_records=10, timeout_ms=10_000))
    await asyncio.sleep(0.05)
    producer.append(TP, [b"k"], [b"v"], [1])
    await producer.close()
    polled = await asyncio.wait_for(polling, 1)
    assert polled[TP].values == [b"v"]
    await other.close()


async def test_reading_starts_at_the_new_place_when_seeking_while_the_database_is_read(local):
    producer = local.producer()
    await producer.start()
    producer.append(TP, [None] * 10, [b"%d" % number for number in range(10)], [1] * 10)
    await producer.close()
    consumer = local.consumer()
    consumer.assign({TP: 0})
    polling = asyncio.create_task(consumer.poll([TP], max_records=100, timeout_ms=1_000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    consumer.seek(TP, 5)
    assert (await polling)[TP].offsets == [5, 6, 7, 8, 9]


async def test_a_subscribed_topic_is_found_when_another_process_creates_it(local, directory, new_member):
    member = new_member(local, "g", ["t", "late"], "member")
    await member.consumer.start()
    await member.wait_owned([TP])
    other = LocalTransport(directory)
    await other.start()
    await (await other.admin()).create_topics([TopicSpec("late", 1)])
    await member.wait_owned([TP, TopicPartition("late", 0)])
    await member.consumer.close()
    await other.close()


async def test_everything_is_still_there_when_opened_again(local, directory):
    producer = local.producer()
    await producer.start()
    producer.append(TP, [b"k"], [b"v"], [7], [[("h", b"x")]])
    await producer.close()
    admin = await local.admin()
    await admin.set_group_offsets("g", {TP: OffsetAndMetadata(1, "m")})
    await local.close()
    again = LocalTransport(directory)
    await again.start()
    assert await read_all(again, TP) == [b"v"]
    assert await (await again.admin()).group_offsets("g") == {TP: OffsetAndMetadata(1, "m")}
    await again.close()


@pytest.mark.parametrize("acknowledged", [1, 40, 150])
@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_when_a_producer_is_killed(local, directory, acknowledged):
    with process(APPENDS, directory) as producer:
        for _ in range(acknowledged):
            last = int(producer.stdout.readline())
        producer.kill()
        last = max([last, *map(int, producer.stdout.read().split())])
    values = await read_all(local, TP)
    numbers = [int(value) for value in values]
    assert numbers == [number for number in range(len(values) // 50) for _ in range(50)]
    assert len(values) // 50 - 1 in {last, last + 1}


@pytest.mark.parametrize("acknowledged", [1, 40, 101])
@pytest.mark.slow
async def test_no_half_transaction_is_seen_when_a_worker_is_killed(local, directory, acknowledged):
    with process(TRANSACTIONS, directory) as worker:
        for _ in range(acknowledged):
            last = int(worker.stdout.readline())
        worker.kill()
        last = max([last, *map(int, worker.stdout.read().split())])
    inputs, outputs = await read_all(local, TP), await read_all(local, OUT)
    admin = await local.admin()
    committed = (await admin.group_offsets("g"))[TP].offset
    assert inputs == outputs
    assert [int(value) for value in outputs] == [number for number in range(committed) for _ in range(20)]
    assert committed - 1 in {last, last + 1}
    heir = local.producer("tx")
    await heir.start()
    await heir.begin()
    heir.append(OUT, [b"k"], [b"heir"], [1])
    await heir.commit()
    assert (await read_all(local, OUT))[len(outputs) :] == [b"heir"]
    await heir.close()


async def test_nothing_is_taken_for_delivered_when_a_flush_was_interrupted(local):
    producer = local.producer()
    await producer.start()
    producer.append(TP, [b"k"], [b"v"], [1])
    flushing = asyncio.create_task(producer.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    with pytest.raises(DeliveryError, match="interrupted"):
        await producer.flush()
    await producer.kill()


@pytest.mark.slow
async def test_all_succeed_when_several_processes_open_a_new_directory_at_once(directory):
    with (
        process(OPENING, directory, "a") as a,
        process(OPENING, directory, "b") as b,
        process(OPENING, directory, "c") as c,
    ):
        assert [started.stdout.read() for started in (a, b, c)] == ["done\n"] * 3
    transport = LocalTransport(directory)
    await transport.start()
    counts = await (await transport.admin()).partition_counts()
    assert counts == {"made-by-a": 1, "made-by-b": 1, "made-by-c": 1}
    await transport.close()


async def test_opening_is_refused_with_a_mend_when_the_file_is_no_database(directory):
    directory.mkdir()
    (directory / DATABASE_FILE).write_text("not a database" * 100)
    transport = LocalTransport(directory)
    with pytest.raises(TransportError, match="not a sound database") as refused:
        await transport.start()
    assert str(directory) in str(refused.value)
    await transport.close()


async def test_opening_is_refused_naming_both_formats_when_the_database_is_newer(local, directory):
    await local.close()
    connection = sqlite3.connect(directory / DATABASE_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    newer = LocalTransport(directory)
    with pytest.raises(TransportError, match=r"format 99.*format 1"):
        await newer.start()
    await newer.close()


async def test_use_is_refused_with_a_mend_when_the_transport_is_closed(local):
    admin = await local.admin()
    await local.close()
    with pytest.raises(BrokerUnavailableError, match="start"):
        await admin.partition_counts()


async def test_lock_file_names_process_and_group_when_a_worker_runs(local, directory, new_member):
    member = new_member(local, "g", ["t"], "member")
    await member.consumer.start()
    assert json.loads((directory / "worker.lock").read_text()) == {"pid": os.getpid(), "group": "g"}
    await member.consumer.close()


@pytest.mark.alone
async def test_event_loop_keeps_turning_when_much_is_written_and_read(local):
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def watch():
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            longest = max(longest, loop.time() - before)

    watching = asyncio.create_task(watch())
    producer = local.producer()
    await producer.start()
    column = [b"x" * 75] * 2_000
    for _ in range(50):
        producer.append(TP, column, column, [1] * 2_000)
        await producer.drain()
    await producer.close()
    assert len(await read_all(local, TP)) == 100_000
    watching.cancel()
    assert longest < 0.25
