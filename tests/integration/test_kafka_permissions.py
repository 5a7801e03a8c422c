"""A worker that lacks permissions says which, one after the other, with the command that grants it; which works."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from streamlib.errors import AuthorizationError
from streamlib.kafka_streams import KafkaStreams
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
LITERAL, ALLOW, ANY_HOST = 3, 3, "*"


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
        (RESOURCES[option], value, LITERAL, "User:alice", ANY_HOST, operation, ALLOW)
        for option, value in pairs
        if option in RESOURCES
    ]
    client = KafkaClient(Connection(broker.address, None, "administrator"))
    await client.start()
    for rule in rules:
        answer = await client.send(client.get_random_node(), CreateAclsRequest(*rule))
        assert {code for code, _ in answer.creation_responses} == {0}
    await client.close()


async def test_every_missing_permission_is_told_with_the_command_that_grants_it(
    app: Counting, guarded: KafkaBroker
) -> None:
    await app.create(1)
    await app.write(1_000)
    security = SecurityConfig(
        "SASL_PLAINTEXT", sasl_mechanism="PLAIN", username="alice", password=PASSWORD, allow_insecure=True
    )
    granted: list[str] = []
    told: list[str] = []

    async def run() -> None:
        transport = KafkaTransport(guarded.listener("NAMED"), security)
        settings = {
            "application_id": app.name,
            "state_dir": app.folder / "state",
            "processing_guarantee": "exactly_once_v2",
        }
        async with KafkaStreams(counting(app.name), settings, transport=transport) as streams, asyncio.timeout(30):
            while await app.counts("out") != app.expected:
                await asyncio.wait([asyncio.ensure_future(streams.wait())], timeout=0.1)
                if streams.failed:
                    await streams.wait()

    for _ in range(20):
        try:
            await run()
            break
        except AuthorizationError as error:
            told.append(str(error))
            command = command_in(str(error))
            if not granted:
                await asyncio.to_thread(run_command, command, guarded)
            else:
                await grant(command, guarded)
            granted.append(" ".join(command[command.index("--operation") + 1 :]))
            assert len(set(granted)) == len(granted), f"told twice: {granted}"
    assert await app.counts("out") == app.expected, granted
    assert [text for text in told if "User:alice may not" not in text or PASSWORD in text] == []
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
