"""What the Kafka clients really use: read from aiokafka's objects, once they are made as a worker makes them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, OffsetResetStrategy
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer import sender

from streamlib.config import StreamsConfig
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupOptions, Member
from streamlib.transport.kafka import client_defaults
from streamlib.transport.kafka.client import KafkaClient
from streamlib.transport.kafka.client_defaults import producer_request_timeout_ms
from streamlib.transport.kafka.consumer import KafkaConsumer
from streamlib.transport.kafka.producer import KafkaProducer
from streamlib.transport.kafka.transport import KafkaTransport

CONFIG = StreamsConfig("app")


class Anyone:
    """Assignor and listener."""

    name = "anyone"

    def subscription(self) -> bytes:
        return b""

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        return {}

    def assigned(self, partitions: object, user_data: bytes) -> None: ...

    async def on_revoked(self, partitions: object) -> None: ...

    async def on_assigned(self, partitions: object, group: object) -> None: ...


@pytest.fixture
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients start without a network."""

    async def nothing(self: object) -> None: ...

    monkeypatch.setattr(KafkaClient, "start", nothing)
    monkeypatch.setattr(GroupCoordinator, "_coordination_routine", nothing)
    monkeypatch.setattr(sender.Sender, "start", nothing)
    monkeypatch.setattr(sender.Sender, "sender_task", _Ended())


class _Ended:
    def add_done_callback(self, callback: object) -> None: ...


@pytest.fixture
async def member(unconnected: None) -> AsyncIterator[KafkaConsumer]:
    group = GroupOptions(
        "app",
        frozenset({"words"}),
        Anyone(),
        Anyone(),
        session_timeout_ms=CONFIG.session_timeout_ms,
        heartbeat_interval_ms=CONFIG.heartbeat_interval_ms,
        rebalance_timeout_ms=CONFIG.rebalance_timeout_ms,
    )
    consumer = KafkaTransport("127.0.0.1:9").consumer(group)
    assert isinstance(consumer, KafkaConsumer)
    await consumer.start()
    yield consumer
    await consumer.close()


async def made(transactional_id: str | None, **settings: Any) -> KafkaProducer:
    producer = KafkaTransport("127.0.0.1:9").producer(transactional_id, **settings)
    assert isinstance(producer, KafkaProducer)
    await producer.start()
    return producer


async def test_a_consumer_reads_what_is_committed_and_decides_nothing_by_itself(member: KafkaConsumer) -> None:
    fetcher: Any = member._fetcher
    assert fetcher._isolation_level == READ_COMMITTED
    assert fetcher._default_reset_strategy == OffsetResetStrategy.NONE
    assert fetcher._check_crcs is True
    assert fetcher._max_partition_fetch_bytes == 1024 * 1024
    assert fetcher._fetch_max_bytes == 50 * 1024 * 1024


async def test_a_member_of_a_group_has_timeouts_that_outlast_stalls_and_commits_nothing_by_itself(
    member: KafkaConsumer,
) -> None:
    assert member._membership is not None
    coordinator: Any = member._membership._coordinator
    assert coordinator._enable_auto_commit is False
    assert coordinator._session_timeout_ms == 45_000
    assert coordinator._heartbeat_interval_ms == 500  # Kafka has 3 s: a rebalance is heard of sooner
    assert coordinator._rebalance_timeout_ms == 60_000
    assert coordinator._max_poll_interval == 300


async def test_every_client_notices_a_silent_broker_and_a_changed_topic_soon(member: KafkaConsumer) -> None:
    producer = await made(None)
    for client in (member._client, producer._client, KafkaClient(producer._connection)):
        assert client is not None
        assert client._request_timeout_ms == 15_000
        assert client._settings["request_timeout_ms"] == 15_000
        assert client._metadata_max_age_ms == 60_000


@pytest.mark.parametrize("transactional_id", [None, "app-1"])
async def test_a_producer_waits_for_all_replicas_and_is_idempotent_whatever_the_guarantee(
    unconnected: None, transactional_id: str | None
) -> None:
    producer = await made(transactional_id)
    assert producer._sender._acks == -1
    assert producer._sender._txn_manager is producer._manager, "which numbers the records"
    assert producer._manager.transactional_id == transactional_id
    assert producer._accumulator._batch_size == 256 * 1024
    assert producer._max_request_size == 1024 * 1024


async def test_a_transaction_times_out_after_what_the_worker_says_and_later_than_a_request(unconnected: None) -> None:
    producer = await made("app-1", transaction_timeout_ms=CONFIG.transaction_timeout_ms)
    assert producer._manager.transaction_timeout_ms == 10_000
    assert producer._client._request_timeout_ms == 5_000
    assert producer._sender._request_timeout_ms == 5_000


@pytest.mark.parametrize(
    ("transaction_timeout_ms", "request_timeout_ms"),
    [(None, 15_000), (10_000, 5_000), (20_000, 10_000), (900_000, 15_000)],
)
def test_a_request_times_out_in_time_for_another_one_within_its_transaction(
    transaction_timeout_ms: int | None, request_timeout_ms: int
) -> None:
    assert producer_request_timeout_ms(transaction_timeout_ms) == request_timeout_ms


async def test_all_of_a_worker_agrees_on_defaults(unconnected: None) -> None:
    options = GroupOptions("app", frozenset(), Anyone(), Anyone())
    for name in ("session_timeout_ms", "rebalance_timeout_ms"):
        assert getattr(options, name) == getattr(CONFIG, name)
    assert CONFIG.transaction_timeout_ms == client_defaults.TRANSACTION_TIMEOUT_MS
    assert (await made("app-1"))._manager.transaction_timeout_ms == CONFIG.transaction_timeout_ms
