"""Connections: an aiokafka client that starts in bounded time, says why it cannot, and closes without leftovers.

Next: `consumer`, `producer` and `admin`, which each have one.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    StaleMetadata,
)
from aiokafka.protocol.metadata import MetadataRequest

from streamlib.errors import BrokerUnavailableError, ConfigError
from streamlib.transport.kafka.client_defaults import (
    ANSWER_TIMEOUT_S,
    CLOSE_TIMEOUT_S,
    METADATA_MAX_AGE_MS,
    METADATA_PAUSE_S,
    REQUEST_TIMEOUT_MS,
    START_TIMEOUT_S,
)
from streamlib.transport.kafka.translation import Caller, describe, translate
from streamlib.transport.security import SecurityConfig

logger = logging.getLogger(__name__)
thinned = logging.getLogger("aiokafka")  # `logs` thins it out: while a broker is away, many attempts a second fail
Answer = TypeVar("Answer")

SILENT_S = 4.0  # requests that may take longer have connections of their own
BOOTSTRAP_CONNECTION = ("bootstrap", ConnectionGroup.DEFAULT)
REASON_HEARD = b"\x01"


@dataclass(frozen=True)
class Connection:
    """How to reach a cluster.

    Attributes:
        address: ``host:port`` of some brokers, separated by commas.
        security: None for plain text.
        client_id: Our name in the brokers' logs and quotas.
    """

    address: str
    security: SecurityConfig | None
    client_id: str


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """aiokafka's form of a function that returns a bearer token."""

    def __init__(self, oauth_token: Callable[[], Awaitable[str]]) -> None:
        self._oauth_token = oauth_token

    async def token(self) -> str:
        """A fresh token.

        Raises:
            KafkaConnectionError: The function has raised: there is no connection for now, as if no broker answered.
        """
        try:
            return await self._oauth_token()
        except Exception as error:
            msg = f"oauth_token has raised {error!r}"
            raise KafkaConnectionError(msg) from error


class TokenLogin:
    """The client's part of logging in with a bearer token.

    A broker that refuses a token says why in an answer that bears no error code; the code comes once the client has
    told that it heard. aiokafka takes that first answer for success, whatever it says, and sends requests: the broker
    ends the connection, and what it answers (ILLEGAL_SASL_STATE in each field for an error) is told as if a topic or
    a transaction were to blame, or read as a cluster without brokers.

    Args:
        login: aiokafka's, which makes the message with the token.

    Source: RFC 7628 section 3.2.3, Kafka's ``OAuthBearerSaslServer`` and ``SaslServerAuthenticator``.
    """

    def __init__(self, login: Any) -> None:
        self._login = login
        self._reason = b""

    async def step(self, answer: bytes | None) -> tuple[bytes, bool] | None:
        """The next message to the broker, and that it is answered; None once we are logged in.

        Raises:
            SaslAuthenticationFailed: A broker that refused the token gives no error code after all.
        """
        if self._reason:
            raise SaslAuthenticationFailed(self._reason.decode(errors="replace"))
        if answer:
            self._reason = answer
            return REASON_HEARD, True
        message: tuple[bytes, bool] | None = await self._login.step(answer)
        return message


class BrokerConnection(AIOKafkaConnection):  # type: ignore[misc]
    """aiokafka's connection, which fails to connect when the broker refuses its token.

    Args:
        host: Of the broker.
        port: Of the broker.
        closing: Transports with the futures of their ends: this one's is there from its closing until its end. With
            TLS that takes an answer of the broker.
        settings: aiokafka's.
    """

    def __init__(
        self, host: str, port: int, *, closing: dict[asyncio.Transport, asyncio.Future[None]], **settings: Any
    ) -> None:
        super().__init__(host, port, **settings)
        self._closing = closing

    def close(self, reason: CloseReason | None = None, exc: Exception | None = None) -> asyncio.Future[None]:
        """Close it; the future of its end."""
        if self._writer is not None and not self._closed_fut.done():
            transport = self._writer.transport
            self._closing[transport] = self._closed_fut
            self._closed_fut.add_done_callback(lambda _: self._closing.pop(transport, None))
        ended: asyncio.Future[None] = super().close(reason, exc)
        return ended

    def authenticator_oauth(self) -> TokenLogin:
        """Who logs in with a token."""
        return TokenLogin(super().authenticator_oauth())


def caller_of(connection: Connection) -> Caller:
    """Who we are to the brokers' access rules, as far as we can know: they map certificates and tickets themselves."""
    security = connection.security
    if security is None or security.protocol == "PLAINTEXT":
        return Caller("User:ANONYMOUS", connection.address)
    if security.username:
        return Caller(f"User:{security.username}", connection.address)
    return Caller(address=connection.address)


def security_settings(security: SecurityConfig | None) -> dict[str, Any]:
    """A `SecurityConfig` as aiokafka's keyword arguments."""
    if security is None:
        return {"security_protocol": "PLAINTEXT"}
    settings: dict[str, Any] = {"security_protocol": security.protocol, "ssl_context": security.ssl_context()}
    if security.sasl:
        settings["sasl_mechanism"] = security.sasl_mechanism
        settings["sasl_plain_username"] = security.username
        settings["sasl_plain_password"] = security.password
        settings["sasl_kerberos_service_name"] = security.kerberos_service_name
        settings["sasl_kerberos_domain_name"] = security.kerberos_domain_name
    if security.oauth_token is not None:
        settings["sasl_oauth_token_provider"] = TokenProvider(security.oauth_token)
    return settings


class KafkaClient(AIOKafkaClient):  # type: ignore[misc]
    """An aiokafka client for one consumer, producer or admin; made on a running event loop.

    Attributes:
        caller: Who we are, for messages about permissions.
        unanswered: True once a request was sent whose answer never came: it may take effect later, or not at all.
    """

    _sync_task: asyncio.Task[None] | None

    def __init__(
        self, connection: Connection, *, request_timeout_ms: int = REQUEST_TIMEOUT_MS, retry_backoff_ms: int = 100
    ) -> None:
        self._address = connection.address
        self.caller = caller_of(connection)
        self._settings: dict[str, Any] = {
            "client_id": connection.client_id,
            "request_timeout_ms": request_timeout_ms,
            **security_settings(connection.security),
        }
        super().__init__(
            bootstrap_servers=connection.address,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            retry_backoff_ms=retry_backoff_ms,
            **self._settings,
        )
        self.unanswered = False
        self._closing: dict[asyncio.Transport, asyncio.Future[None]] = {}
        self._metadata_allowed_at = 0.0
        self._next_update: asyncio.Future[bool] | None = None

    async def start(self) -> None:
        """Connect and learn the cluster.

        Raises:
            BrokerUnavailableError: Nobody answered within ten seconds; nothing stays open.
            ConfigError: A broker answered, and refuses our credentials or our TLS.
        """
        failure: Exception = KafkaConnectionError("no address")
        servers = [server for server in self._address.split(",") if server.strip()]
        try:
            for server in servers:
                self._bootstrap_servers = server  # one by one, so that a silent one does not use up the others' time
                try:
                    async with asyncio.timeout(START_TIMEOUT_S / len(servers)):
                        await self.bootstrap()
                    return
                except (KafkaError, OSError, TimeoutError) as error:
                    failure = error
            raise await self._why_not(failure) from failure
        except BaseException:
            await self.close()
            raise

    async def bootstrap(self) -> None:
        """Learn the cluster from the first address; aiokafka's own leaves its connection open when it is cancelled.

        Raises:
            KafkaConnectionError: Nobody answers there.
        """
        host, port, _ = self.hosts[0]
        try:
            connection = await self._connect(host, port)
            try:
                self.cluster.update_metadata(await connection.send(MetadataRequest([])))
                if not self.cluster.brokers():  # it is kept only until brokers are known
                    self._conns[BOOTSTRAP_CONNECTION] = connection
            finally:
                if BOOTSTRAP_CONNECTION not in self._conns:
                    connection.close()
        except (KafkaError, OSError, RuntimeError) as error:
            raise KafkaConnectionError(describe(error)) from error
        if self._sync_task is None:
            self._sync_task = asyncio.create_task(self._md_synchronizer())

    async def close(self) -> None:
        """Close every connection; never raises, never hangs."""
        for connection in list(self._conns.values()):
            connection.close(reason=CloseReason.SHUTDOWN)
        self._conns.clear()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await super().close()  # there is only its task left to end
                if self._closing:
                    await asyncio.wait(self._closing.values())
        except TimeoutError:
            pass
        finally:
            for transport in list(self._closing):
                transport.abort()
            await asyncio.sleep(0)

    async def send(self, node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        """The answer to a request, noting when there was none.

        A connection without an answer is ended: whoever comes next must not wait on the same one. aiokafka's own does
        so when its time is over, not when its caller's is; and it looks the connection up again then, where another
        may be by now, or none.

        Raises:
            NodeNotReadyError: There is no connection; nothing was sent.
            RequestTimedOutError: No answer in time.
            KafkaConnectionError: The connection ended.
        """
        connection = await self._get_conn(node_id, group=group)
        if connection is None:
            msg = f"no connection to node {node_id}"
            raise NodeNotReadyError(msg)
        began = self._loop.time()
        try:
            return await connection.send(request)
        except BaseException as error:
            if isinstance(error, RuntimeError) and not isinstance(error, KafkaError):  # which is one, too
                raise _refused_write(error, node_id) from error  # nor was this sent
            self.unanswered = True
            gave_up = isinstance(error, asyncio.CancelledError) and self._loop.time() - began > SILENT_S
            if gave_up or isinstance(error, TimeoutError):
                connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            if isinstance(error, TimeoutError):
                raise RequestTimedOutError from error
            raise

    async def _connect(self, host: str, port: int, **more: Any) -> BrokerConnection:
        connection = BrokerConnection(host, port, closing=self._closing, **self._settings, **more)
        await connection.connect()
        return connection

    async def _get_conn(
        self, node_id: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> BrokerConnection | None:
        """The connection to a node, made if need be; None when it cannot be, for callers to try again.

        aiokafka's own makes connections of its own class.
        """
        key = (node_id, group)
        if (connection := self._connected(key)) is not None:
            return connection
        try:
            broker = self.cluster.broker_metadata(node_id)
            if broker is None:
                msg = f"node {node_id} is not in the metadata"
                raise StaleMetadata(msg)
            async with self._get_conn_lock:
                if (connection := self._connected(key)) is not None:
                    return connection
                connection = self._conns[key] = await self._connect(
                    broker.host,
                    broker.port,
                    max_idle_ms=self._connections_max_idle_ms,
                    on_close=self._on_connection_closed,
                )
        except (KafkaError, OSError, TimeoutError) as error:
            thinned.error("cannot connect to node %s: %s", node_id, describe(error))
            self.force_metadata_update()
            return None
        return connection

    def _connected(self, key: tuple[Any, Any]) -> BrokerConnection | None:
        connection: BrokerConnection | None = self._conns.get(key)
        if connection is None or connection.connected():
            return connection
        del self._conns[key]
        return None

    async def _metadata_update(self, cluster_metadata: Any, topics: Collection[str]) -> bool:
        """Ask for metadata as aiokafka does, but without leave to create topics that are missing."""
        request = MetadataRequest(list(topics) if topics else None, allow_auto_topic_creation=False)
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        bootstrap = self._conns.get(BOOTSTRAP_CONNECTION)
        if bootstrap is not None:
            nodes.append(BOOTSTRAP_CONNECTION[0])
        random.shuffle(nodes)
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                metadata = await connection.send(request)
            except (KafkaError, TimeoutError, RuntimeError) as error:
                if isinstance(error, TimeoutError) and node != BOOTSTRAP_CONNECTION[0]:
                    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
                logger.info("no metadata from node %s: %s", node, describe(error))
                continue
            if not metadata.brokers:
                return False
            cluster_metadata.update_metadata(metadata)
            if bootstrap is not None:  # it was kept only until brokers are known
                self._conns.pop(BOOTSTRAP_CONNECTION, None)
                bootstrap.close()
            return True
        cluster_metadata.failed_update(None)
        return False

    def force_metadata_update(self) -> Any:
        """A future that ends with the next metadata answer.

        Whoever waits for a leader that does not exist calls this in a loop, so a call soon after another waits a bit.
        """
        now = self._loop.time()
        if now >= self._metadata_allowed_at:
            self._metadata_allowed_at = now + METADATA_PAUSE_S
            return super().force_metadata_update()
        if self._next_update is None:
            self._next_update = self._loop.create_future()
            self._loop.call_at(self._metadata_allowed_at, self._start_next_update)
        return asyncio.shield(self._next_update)

    def _start_next_update(self) -> None:
        waiting, self._next_update = self._next_update, None
        self._metadata_allowed_at = self._loop.time() + METADATA_PAUSE_S

        def finish(update: asyncio.Future[bool]) -> None:
            if waiting is not None and not waiting.done() and not update.cancelled():
                waiting.set_result(update.result())

        super().force_metadata_update().add_done_callback(finish)

    async def _why_not(self, failure: Exception) -> ConfigError | BrokerUnavailableError:
        """Bootstrapping hides refused credentials behind a connection error: connect once more to see them."""
        for host, port, _ in self.hosts if isinstance(failure, KafkaError) else ():
            try:
                async with asyncio.timeout(START_TIMEOUT_S / 2):
                    connection = await self._connect(host, port)
                connection.close()
            except (KafkaError, OSError, TimeoutError) as reason:
                told = translate(reason, f"the Kafka broker at {host}:{port} refuses us")
                if isinstance(told, ConfigError):
                    return told
                if isinstance(reason, ssl.SSLError):
                    return ConfigError(
                        f"no TLS with the Kafka broker at {host}:{port}: {describe(reason)}. Check the protocol, "
                        "ca_file and, if the broker asks for one, cert_file"
                    )
                failure = reason
        return BrokerUnavailableError(
            f"no Kafka broker answers at {self._address}: {describe(failure)}. Is it running, and is the address right?"
        )


def _refused_write(error: RuntimeError, node_id: int) -> KafkaConnectionError:
    """With uvloop a RuntimeError comes where asyncio only warns: at a write to a connection just closed."""
    return KafkaConnectionError(f"the connection to node {node_id} was just closed: {error}")


async def retrying(
    client: KafkaClient,
    doing: str,
    attempt: Callable[[], Awaitable[Answer]],
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
    operation: str = "",
) -> Answer:
    """What ``attempt`` returns, trying again after answers that ask for it.

    Args:
        client: Learns anew who leads what before another attempt.
        doing: As in `translate`.
        attempt: Sends requests, and raises for answers that are errors.
        timeout_s: How long to try.
        operation: As in `translate`.

    Raises:
        BrokerUnavailableError: Still no success after ``timeout_s``.
        StreamlibError: The translation of any other failure.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await attempt()
        except BrokerUnavailableError:
            if asyncio.get_running_loop().time() >= deadline - 0.1:
                raise
        except (KafkaError, OSError, TimeoutError) as error:
            translated = translate(error, doing, client.caller, operation)
            late = asyncio.get_running_loop().time() >= deadline - 0.1
            if late or not isinstance(translated, BrokerUnavailableError):
                raise translated from error
        await asyncio.sleep(0.1)
        client.force_metadata_update()
