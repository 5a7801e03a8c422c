"""A process that was forked while a worker ran is told so, and disturbs nothing."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.errors import ForkedError
from streamlib.runtime import application

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, multiprocessing, os, sys
from pathlib import Path

from streamlib import KafkaStreams, StreamsBuilder, serdes
from streamlib.errors import ForkedError
from streamlib.record import TopicPartition
from streamlib.transport.base import TopicSpec
from streamlib.transport.memory import MemoryBroker, MemoryTransport

FOLDER, HOW = sys.argv[1:]
BROKER = MemoryBroker()
COUNT = 1_000


def topology():
    builder = StreamsBuilder("forking")
    builder.stream("in", serdes.STRING, serdes.STRING).group_by_key().count(store="counts").to_stream().to(
        "out", value_serde=serdes.INT64
    )
    return builder.build()


def streams(state):
    settings = {"state_dir": Path(FOLDER, state), "commit_interval_ms": 50, "processing_guarantee": "exactly_once_v2"}
    return KafkaStreams(topology(), settings, transport=MemoryTransport(BROKER))


async def wait_until_counted(expected):
    transport = MemoryTransport(BROKER)
    await transport.start()
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({TopicPartition("out", 0): 0})
    last = 0
    async with asyncio.timeout(20):
        while last != expected:
            for batch in (await consumer.poll([TopicPartition("out", 0)], max_records=10_000, timeout_ms=50)).values():
                last = int.from_bytes(batch.values[-1], "big")
            assert last <= expected, last
    await consumer.close()
    await transport.close()


async def write():
    transport = MemoryTransport(BROKER)
    await transport.start()
    admin = await transport.admin()
    await admin.create_topics([TopicSpec("in", 1), TopicSpec("out", 1)])
    await admin.close()
    producer = transport.producer()
    await producer.start()
    producer.append(TopicPartition("in", 0), [b"k"] * COUNT, [b"v"] * COUNT, [1] * COUNT)
    await producer.flush()
    await producer.close()
    await transport.close()


def told(use):
    try:
        use()
    except ForkedError as error:
        assert f"process {os.getpid()} was forked from process {os.getppid()}" in str(error), error
        return True
    return False


def in_a_child(running):
    uses = [running.stop, running.health, lambda: running.failed, lambda: running.tasks]
    uses += [lambda: asyncio.run(running.wait()), lambda: asyncio.run(running.__aenter__())]
    uses += [lambda: asyncio.run(running.__aexit__(None, None, None))]
    answers = [told(use) for use in uses]
    os._exit(0 if all(answers) else 1)


async def main():
    await write()
    async with streams("first") as running:
        await wait_until_counted(COUNT)
        if HOW == "multiprocessing":
            child = multiprocessing.get_context("fork").Process(target=in_a_child, args=(running,))
            child.start()
            await asyncio.to_thread(child.join)
            assert child.exitcode == 0, child.exitcode
        else:
            child = os.fork()
            if child == 0:
                in_a_child(running)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0, status
        await write()
        await wait_until_counted(2 * COUNT)
    print("went on")


asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["multiprocessing", "fork"])
def test_a_forked_process_is_refused_and_the_worker_goes_on(tmp_path: Path, how: str) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), how]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def copying():
    builder = StreamsBuilder("copying")
    builder.stream("in", serdes.STRING, serdes.STRING).to("out")
    return builder.build()


async def test_the_worker_stops_in_a_forked_process_that_goes_on_with_its_event_loop(
    app, monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.create(1, "in", "out")
    streams = app.streams(copying())
    await streams.__aenter__()
    parent = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: parent + 1)
        async with asyncio.timeout(10):
            await asyncio.wait([streams._running])
    with pytest.raises(ForkedError, match=f"process {parent + 1} was forked from process {parent} "):
        await streams.__aexit__()


async def test_nothing_is_closed_when_a_forked_process_ends(app, monkeypatch: pytest.MonkeyPatch) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "1", 1)])
    streams = app.streams(copying())
    await streams.__aenter__()
    parent = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: parent + 1)
        closing = streams._stack.aclose()
        with pytest.raises(StopIteration):  # without a turn of the loop, in which the worker would notice
            closing.send(None)
    await app.produce("in", [("a", "2", 2)])
    await app.drained(streams, "in")
    assert len(await app.read("out")) == 2
    await streams.__aexit__()
    await application._ABANDONED.pop().aclose()
