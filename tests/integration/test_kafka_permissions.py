"""A worker that lacks permissions says which, one after the other, with the command that grants it; which works."""

import asyncio
import logging
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from streamlib.kafka_streams import KafkaStreams
from streamlib.runtime.restore import cancelled
from streamlib.testing.kafka_broker import KafkaBroker
from streamlib.testing.kafka_jars import fetch_jars, find_java
from streamlib.transport.kafka.client import Connection, KafkaClient
from streamlib.transport.kafka.transport import KafkaTransport
from streamlib.transport.security import SecurityConfig
from tests.integration.counting import Counting, counting

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
PASSWORD = "correct-horse"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


@pytest.fixture(scope="module")
def guarded() -> Iterator[KafkaBroker]:
    """A broker that permits nothing to alice, and everything to those who come without a name."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.named.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.named.plain.sasl.jaas.config": f'{PLAIN} required user_alice="{PASSWORD}";',
    }
    with KafkaBroker(settings=settings, listeners={"NAMED": "SASL_PLAINTEXT"}) as broker:
        yield broker


@pytest.fixture
async def app(guarded: KafkaBroker, tmp_path: Path) -> AsyncIterator[Counting]:
    app = Counting(guarded.address, tmp_path)
    yield app
    await app.close()


RESOURCES = {"--topic": 2, "--group": 3, "--transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
LITERAL, PREFIXED = 3, 4
DENY, ALLOW = 2, 3
ALL = 2  # operations
ALICE = ("User:alice", "*")  # from any host


def command_in(told: str) -> list[str]:
    """The arguments of the command that an error tells."""
    found = re.search(r"kafka-acls (--bootstrap-server .*)", told)
    assert found is not None, told
    return shlex.split(found[1])


def run_command(arguments: list[str], broker: KafkaBroker) -> None:
    """Run it, as an administrator."""
    arguments = [broker.address if before == "--bootstrap-server" else each
                 for before, each in zip(["", *arguments], arguments, strict=False)]  # fmt: skip
    java = [find_java(), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", f"{fetch_jars()}/*"]
    tool = "org.apache.kafka.tools.AclCommand"
    subprocess.run([*java, tool, *arguments], check=True, capture_output=True, timeout=60)


async def grant(arguments: list[str], broker: KafkaBroker) -> None:
    """Do what the command does, without starting Java."""
    pairs = list(pairwise(arguments))
    (operation,) = [OPERATIONS[value] for option, value in pairs if option == "--operation"]
    rules = [
        (RESOURCES[option], value, LITERAL, *ALICE, operation, ALLOW) for option, value in pairs if option in RESOURCES
    ]
    await administrate(broker, [CreateAclsRequest(*rule) for rule in rules])


async def administrate(broker: KafkaBroker, requests: list[Any]) -> None:
    client = KafkaClient(Connection(broker.address, None, "administrator"))
    await client.start()
    for request in requests:
        answer = await client.send(client.get_random_node(), request)
        answers = answer.creation_responses if isinstance(request, CreateAclsRequest) else answer.filter_responses
        assert {code for code, *_ in answers} == {0}
    await client.close()


class Refused(logging.Handler):
    """The lines in which a worker tells of permissions that it waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def refused() -> Iterator[Refused]:
    refused, logger = Refused(), logging.getLogger("streamlib.runtime.permissions")
    logger.addHandler(refused)
    yield refused
    logger.removeHandler(refused)


def of_alice(app: Counting, broker: KafkaBroker, **settings: object) -> KafkaStreams:
    """A worker that comes to the broker as alice."""
    security = SecurityConfig(
        "SASL_PLAINTEXT", sasl_mechanism="PLAIN", username="alice", password=PASSWORD, allow_insecure=True
    )
    pairs = {
        "application_id": app.name,
        "state_dir": app.folder / "state",
        "processing_guarantee": "exactly_once_v2",
        **settings,
    }
    return KafkaStreams(counting(app.name), pairs, transport=KafkaTransport(broker.listener("NAMED"), security))


async def until_counted(app: Counting, streams: KafkaStreams, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while await app.counts("out") != app.expected:
            await asyncio.wait([asyncio.ensure_future(streams.wait())], timeout=0.1)
            if streams.failed:
                await streams.wait()


async def test_every_missing_permission_is_told_with_the_command_that_grants_it(
    app: Counting, guarded: KafkaBroker, refused: Refused
) -> None:
    await app.create(1)
    await app.write(1_000)
    granted: list[str] = []

    async def grant_what_is_told() -> None:
        while True:
            for told in refused.lines[len(granted) :]:
                command = command_in(told)
                if not granted:
                    await asyncio.to_thread(run_command, command, guarded)
                else:
                    await grant(command, guarded)
                granted.append(" ".join(command[command.index("--operation") + 1 :]))
            await asyncio.sleep(0.1)

    granting = asyncio.create_task(grant_what_is_told())
    try:
        async with of_alice(app, guarded) as streams:
            await until_counted(app, streams)
    finally:
        await cancelled(granting)
    assert await app.counts("out") == app.expected
    assert len(set(granted)) == len(granted), f"told twice: {granted}"
    assert [text for text in refused.lines if "User:alice may not" not in text or PASSWORD in text] == []
    internal = [f"--topic {app.name}-counts-{kind}" for kind in ("repartition", "changelog")]
    source, sink = f"--topic {app.name}-in", f"--topic {app.name}-out"
    (transactional,) = [each for each in granted if "--transactional-id" in each]
    assert transactional.startswith(f"Write --transactional-id {app.name}-")
    assert set(granted) - {transactional} == {
        f"Read --group {app.name}",
        *(f"Describe {topic}" for topic in (source, sink, *internal)),
        *(f"{operation} {topic}" for topic in internal for operation in ("Create", "DescribeConfigs", "Write")),
        *(f"Read {topic}" for topic in (source, internal[0])),  # a changelog is read when it is restored
        f"Write {sink}",
    }


@pytest.mark.parametrize(
    ("resource", "name", "operation"),
    [
        ("--topic", "-in", "Read"),
        ("--topic", "-out", "Write"),
        ("--topic", "-counts-changelog", "Write"),
        ("--group", "", "Read"),
        ("--transactional-id", "-", "Write"),
    ],
)
async def test_nothing_is_lost_when_a_permission_is_taken_from_a_running_worker_and_given_back(
    app: Counting, guarded: KafkaBroker, refused: Refused, resource: str, name: str, operation: str
) -> None:
    await app.create(1)
    everything = [(kind, app.name, PREFIXED, *ALICE, ALL, ALLOW) for kind in RESOURCES.values()]
    await administrate(guarded, [CreateAclsRequest(*rule) for rule in everything])
    taken = (RESOURCES[resource], app.name + name, PREFIXED, *ALICE, OPERATIONS[operation], DENY)
    async with of_alice(app, guarded) as streams:
        await app.write(1_000)
        await until_counted(app, streams)
        assert refused.lines == []
        await administrate(guarded, [CreateAclsRequest(*taken)])
        await app.write(1_000)
        async with asyncio.timeout(30):
            while not refused.lines:
                await asyncio.sleep(0.1)
        assert not streams.health().ready
        await app.write(1_000)
        await administrate(guarded, [DeleteAclsRequest(*taken)])
        await until_counted(app, streams)
    assert [line for line in refused.lines if f"User:alice may not {operation} " not in line] == []
