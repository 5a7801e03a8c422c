"""The client never asks a broker to create topics, and does not ask for metadata in a busy loop."""

import asyncio
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.metadata import MetadataRequest

from streamlib.transport.kafka.client import METADATA_PAUSE_S, Connection, KafkaClient


class Listening(KafkaClient):
    """A client whose only node writes requests down, and never answers."""

    def __init__(self) -> None:
        super().__init__(Connection("127.0.0.1:9", None, "test"))
        self.requests: list[Any] = []
        self._conns["bootstrap", 0] = self

    async def _get_conn(self, node_id: Any, **settings: Any) -> Any:
        return self

    async def send(self, request: Any, *more: Any, **settings: Any) -> Any:
        self.requests.append(request)
        raise TimeoutError


async def test_topics_are_not_created_when_metadata_is_asked_for() -> None:
    client = Listening()
    assert not await client._metadata_update(client.cluster, {"words"})
    (request,) = client.requests
    assert isinstance(request, MetadataRequest)
    built = request.prepare({3: (0, 5)})
    assert built.topics == ["words"]
    assert built.allow_auto_topic_creation is False


class Silent:
    """A connection on which no answer comes."""

    closed = False

    def send(self, request: Any, **settings: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()

    def close(self, **reason: Any) -> None:
        self.closed = True


@pytest.mark.parametrize(("waited", "closed"), [(0.1, True), (0.0, False)])
async def test_a_connection_is_ended_when_its_caller_gave_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch, waited: float, closed: bool
) -> None:
    async def ready(*_: Any, **settings: Any) -> bool:
        return True

    monkeypatch.setattr("streamlib.transport.kafka.client.SILENT_S", 0.05)
    client, connection = KafkaClient(Connection("127.0.0.1:9", None, "test")), Silent()
    monkeypatch.setattr(client, "ready", ready)
    client._conns[1, ConnectionGroup.DEFAULT] = connection
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(waited):
            await client.send(1, MetadataRequest([]))
    assert connection.closed is closed


async def test_metadata_updates_are_spaced_when_asked_for_in_a_loop() -> None:
    client = KafkaClient(Connection("127.0.0.1:9", None, "test"))
    updates = 0

    async def synchronizer() -> None:
        nonlocal updates
        while True:
            await client._md_update_waiter
            client._md_update_waiter = asyncio.get_running_loop().create_future()
            updates += 1
            client._md_update_fut.set_result(True)
            client._md_update_fut = None

    task = asyncio.ensure_future(synchronizer())
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        assert await client.force_metadata_update() is True
    assert loop.time() - began >= 3 * METADATA_PAUSE_S * 0.9
    assert updates == 4
    task.cancel()
