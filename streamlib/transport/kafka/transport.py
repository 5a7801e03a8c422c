"""The transport `kafka://HOST:PORT,...`: makes consumers, producers and admins of an Apache Kafka cluster.

Next: `consumer`, `producer`, `admin`.
"""

from streamlib.transport.base import Admin, Consumer, GroupOptions, IsolationLevel, Producer
from streamlib.transport.kafka.admin import KafkaAdmin
from streamlib.transport.kafka.client import Connection, KafkaClient
from streamlib.transport.kafka.client_defaults import MAX_REQUEST_SIZE, TRANSACTION_TIMEOUT_MS
from streamlib.transport.kafka.consumer import KafkaConsumer
from streamlib.transport.kafka.logs import tame_aiokafka
from streamlib.transport.kafka.producer import KafkaProducer
from streamlib.transport.security import SecurityConfig

SCHEME = "kafka://"


class KafkaTransport:
    """An Apache Kafka cluster, of version 2.5 or newer; exactly-once is proved on 4.x.

    Args:
        address: ``host:port`` of some of its brokers, separated by commas; ``kafka://`` may stand before them.
        security: How to log in and encrypt; None for plain text.
        client_id: Our name in the brokers' logs and quotas.
        max_request_size: Size in bytes of the largest record; at most the topics' ``max.message.bytes``.
    """

    def __init__(
        self,
        address: str,
        security: SecurityConfig | None = None,
        client_id: str = "streamlib",
        *,
        max_request_size: int = MAX_REQUEST_SIZE,
    ) -> None:
        tame_aiokafka()
        self._address = address
        self._connection = Connection(address.removeprefix(SCHEME), security, client_id)
        self._max_request_size = max_request_size

    @property
    def address(self) -> str:
        """The brokers as the user wrote them, without secrets."""
        return self._address

    @property
    def max_workers(self) -> int | None:
        """Any number of worker processes may share a cluster."""
        return None

    async def start(self) -> None:
        """See that a broker answers.

        Raises:
            BrokerUnavailableError: Nobody answers.
            ConfigError: A broker refuses our credentials or our TLS.
        """
        client = KafkaClient(self._connection)
        await client.start()
        await client.close()

    async def close(self) -> None:
        """Nothing to close: consumers, producers and admins have their own connections."""

    def consumer(self, group: GroupOptions | None = None, isolation: IsolationLevel = "read_committed") -> Consumer:
        """A consumer: a member of ``group``, or one that reads what it is told."""
        return KafkaConsumer(self._connection, group, isolation)

    def producer(
        self, transactional_id: str | None = None, transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS
    ) -> Producer:
        """An idempotent producer, or a transactional one.

        Raises:
            ConfigError: A transactional one under ``python -O``.
        """
        return KafkaProducer(
            self._connection,
            transactional_id,
            transaction_timeout_ms=transaction_timeout_ms,
            max_request_size=self._max_request_size,
        )

    async def admin(self) -> Admin:
        """A connected admin.

        Raises:
            BrokerUnavailableError: Nobody answers.
        """
        client = KafkaClient(self._connection)
        await client.start()
        return KafkaAdmin(client)
