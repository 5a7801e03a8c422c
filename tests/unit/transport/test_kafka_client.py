"""The client never asks a broker to create topics, and does not ask for metadata in a busy loop."""

import asyncio
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
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
    """A connection on which no answer comes; gives up by itself after ``patience_s``, as aiokafka's."""

    def __init__(self, patience_s: float = 60.0) -> None:
        self.closed = False
        self._patience_s = patience_s

    def connected(self) -> bool:
        return True

    async def send(self, request: Any) -> None:
        async with asyncio.timeout(self._patience_s):
            await asyncio.get_running_loop().create_future()

    def close(self, **reason: Any) -> None:
        self.closed = True


@pytest.mark.parametrize(("waited", "closed"), [(0.1, True), (0.0, False)])
async def test_a_connection_is_ended_when_its_caller_gave_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch, waited: float, closed: bool
) -> None:
    monkeypatch.setattr("streamlib.transport.kafka.client.SILENT_S", 0.05)
    client, connection = KafkaClient(Connection("127.0.0.1:9", None, "test")), Silent()
    client._conns[1, ConnectionGroup.DEFAULT] = connection
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(waited):
            await client.send(1, MetadataRequest([]))
    assert connection.closed is closed


@pytest.mark.parametrize("later", [None, Silent()], ids=["none", "another"])
async def test_the_connection_that_gave_no_answer_is_ended_when_it_is_not_the_nodes_any_more(
    later: Silent | None,
) -> None:
    """aiokafka's own raises KeyError where there is none, of which whoever fetches or writes dies."""
    client, connection = KafkaClient(Connection("127.0.0.1:9", None, "test")), Silent(0.05)
    client._conns[1, ConnectionGroup.DEFAULT] = connection
    sent = asyncio.create_task(client.send(1, MetadataRequest([])))
    await asyncio.sleep(0.01)
    if later is None:
        del client._conns[1, ConnectionGroup.DEFAULT]
    else:
        client._conns[1, ConnectionGroup.DEFAULT] = later
    with pytest.raises(RequestTimedOutError):
        await sent
    assert client.unanswered
    assert connection.closed
    assert later is None or not later.closed


async def test_nothing_counts_as_unanswered_when_there_is_no_connection() -> None:
    client = KafkaClient(Connection("127.0.0.1:9", None, "test"))
    with pytest.raises(NodeNotReadyError):
        await client.send(1, MetadataRequest([]))
    assert not client.unanswered


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
