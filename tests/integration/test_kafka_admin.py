"""What only the Kafka driver's admin can get wrong: the broker's defaults and its refusals."""

import uuid

import pytest

from streamlib.errors import BrokerUnavailableError, ConfigError, MissingTopicError, OffsetOutOfRangeError
from streamlib.record import TopicPartition
from streamlib.testing.kafka_broker import free_port
from streamlib.transport.base import TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport

pytestmark = pytest.mark.kafka


@pytest.fixture
async def admin(kafka_broker):
    made = await KafkaTransport(f"kafka://{kafka_broker}").admin()
    yield made
    await made.close()


async def test_topic_is_replicated_as_the_broker_says_when_no_factor_is_given(admin):
    name = f"admin-{uuid.uuid4().hex}"
    await admin.create_topics([TopicSpec(name, 3)])
    assert await admin.partition_counts([name]) == {name: 3}


@pytest.mark.parametrize(
    "spec",
    [TopicSpec("t", 1, 7), TopicSpec("t", 1, 1, {"cleanup.policy": "burn"}), TopicSpec("t", 0, 1)],
    ids=["replication", "setting", "partitions"],
)
async def test_refusal_names_the_topic_when_the_broker_cannot_make_it(admin, spec):
    name = f"admin-{uuid.uuid4().hex}"
    with pytest.raises(ConfigError, match=f"topic={name}"):
        await admin.create_topics([TopicSpec(name, spec.partitions, spec.replication_factor, spec.configs)])
    assert await admin.partition_counts([name]) == {}


async def test_records_stay_when_told_to_delete_more_than_there_are(admin):
    tp = TopicPartition(f"admin-{uuid.uuid4().hex}", 0)
    await admin.create_topics([TopicSpec(tp.topic, 1)])
    with pytest.raises(OffsetOutOfRangeError, match=tp.topic):
        await admin.delete_records({tp: 5})
    with pytest.raises(MissingTopicError, match="partition=3"):
        await admin.delete_records({tp._replace(partition=3): 5})


async def test_nothing_is_asked_when_nothing_is_named(admin):
    assert await admin.partition_counts([]) == {}
    assert await admin.topic_configs([]) == {}
    assert await admin.end_offsets([]) == {}
    await admin.create_topics([])
    await admin.delete_topics([])
    await admin.delete_records({})


async def test_second_broker_is_asked_when_the_first_does_not_answer(kafka_broker):
    transport = KafkaTransport(f"127.0.0.1:{free_port()},{kafka_broker}")
    await transport.start()
    alone = KafkaTransport(f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailableError, match="Is it running"):
        await alone.admin()
