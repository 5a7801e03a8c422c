"""Logging in and encrypting, against a broker that insists on it."""

import base64
import json
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.conn import OAuthAuthenticator
from aiokafka.errors import SaslAuthenticationFailed

from streamlib.errors import BrokerUnavailableError, ConfigError
from streamlib.record import TopicPartition
from streamlib.testing.kafka_broker import KafkaBroker
from streamlib.transport.base import TopicSpec
from streamlib.transport.kafka.client import Connection, KafkaClient, TokenLogin, TokenProvider
from streamlib.transport.kafka.client_defaults import CLOSE_TIMEOUT_S
from streamlib.transport.kafka.transport import KafkaTransport
from streamlib.transport.security import SecurityConfig
from tests import open_transports

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
PASSWORD = "correct-horse"
MODULES = "org.apache.kafka.common.security"
JAAS = {
    "scram-sha-256": f"{MODULES}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{MODULES}.scram.ScramLoginModule required;",
    "plain": f'{MODULES}.plain.PlainLoginModule required user_bob="{PASSWORD}";',
    "oauthbearer": f'{MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";',
}


class Authority:
    """A certificate authority in a folder, which signs for ``localhost``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.key = folder / "ca.key"
        folder.mkdir()
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority",
                      "-keyout", str(self.key), "-out", str(self.ca))  # fmt: skip

    def sign(self, name: str) -> Path:
        """A PEM file with a PKCS 8 key and its certificate."""
        key, request, made = (self.folder / f"{name}{suffix}" for suffix in (".key", ".csr", ".crt"))
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", str(key),
                      "-out", str(request))  # fmt: skip
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost")
        self._openssl("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self.key), "-days", "2",
                      "-CAcreateserial", "-extfile", str(extensions), "-out", str(made))  # fmt: skip
        both = self.folder / f"{name}.pem"
        both.write_text(key.read_text() + made.read_text())
        return both

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[KafkaBroker]:
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.sign("broker")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.secure.sasl.enabled.mechanisms": ",".join(JAAS).upper(),
        **{f"listener.name.secure.{mechanism}.sasl.jaas.config": text for mechanism, text in JAAS.items()},
    }
    scram = [f"SCRAM-SHA-{bits}=[name=bob,password={PASSWORD}]" for bits in (256, 512)]
    with KafkaBroker(
        settings=settings,
        listeners={"SECURE": "SASL_SSL", "MUTUAL": "SSL"},
        format_options=[option for user in scram for option in ("--add-scram", user)],
    ) as broker:
        yield broker


async def token(*, lifetime_s: float = 600) -> str:
    """An unsecured JSON web token, as the broker's own test handler takes them.

    It does not say when it was issued: the broker cuts its own time to milliseconds, so a token issued in the same
    millisecond would come from the future, and be refused.
    """
    claims = {"sub": "bob", "exp": time.time() + lifetime_s}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)
    ]
    return ".".join([*parts, ""])


class Tokens:
    """Gives tokens, of which those at some places of the sequence have expired."""

    def __init__(self, *expired: int) -> None:
        self.expired = expired
        self.given = 0

    async def __call__(self) -> str:
        self.given += 1
        return await token(lifetime_s=-1 if self.given in self.expired else 600)


def sasl(
    authority: Authority,
    mechanism: str,
    password: str = PASSWORD,
    oauth_token: Callable[[], Awaitable[str]] = token,
) -> SecurityConfig:
    return SecurityConfig(
        protocol="SASL_SSL",
        ca_file=authority.ca,
        sasl_mechanism=mechanism,
        username="bob",
        password=password,
        oauth_token=oauth_token if mechanism == "OAUTHBEARER" else None,
    )


async def create(transport: KafkaTransport) -> TopicPartition:
    tp = TopicPartition(f"secure-{uuid.uuid4().hex}", 0)
    admin = await transport.admin()
    await admin.create_topics([TopicSpec(tp.topic, 1)])
    await admin.close()
    return tp


async def write(transport: KafkaTransport, tp: TopicPartition) -> None:
    producer = transport.producer(f"tx-{tp.topic}")
    await producer.start()
    await producer.begin()
    producer.append(tp, [b"k"], [b"v"], [1])
    await producer.commit()
    await producer.close()


async def read(transport: KafkaTransport, tp: TopicPartition) -> list[bytes | None]:
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({tp: 0})
    while not (found := await consumer.poll([tp], max_records=1, timeout_ms=1_000)):
        pass
    await consumer.close()
    return list(found[tp].values)


async def write_and_read(transport: KafkaTransport) -> None:
    tp = await create(transport)
    await write(transport, tp)
    assert await read(transport, tp) == [b"v"]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"])
async def test_records_pass_when_logged_in_over_tls(secured, authority, mechanism):
    await write_and_read(KafkaTransport(secured.listener("SECURE"), sasl(authority, mechanism)))


async def test_records_pass_when_both_sides_show_certificates(secured, authority):
    security = SecurityConfig(protocol="SSL", ca_file=authority.ca, cert_file=authority.sign("client"))
    await write_and_read(KafkaTransport(secured.listener("MUTUAL"), security))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_start_tells_of_the_password_and_not_which_when_it_is_wrong(secured, authority, mechanism, caplog):
    transport = KafkaTransport(secured.listener("SECURE"), sasl(authority, mechanism, "wr0ng-password"))
    with pytest.raises(ConfigError, match="check the username and the password") as refused:
        await transport.start()
    assert "wr0ng-password" not in str(refused.value) + caplog.text


async def test_start_tells_of_the_token_when_it_is_refused(secured, authority):
    tokens = Tokens(*range(1, 100))
    transport = KafkaTransport(secured.listener("SECURE"), sasl(authority, "OAUTHBEARER", oauth_token=tokens))
    with pytest.raises(ConfigError, match=r"invalid_token.*the token, its lifetime"):
        await transport.start()


@pytest.mark.parametrize("expired", [2, 3], ids=["to the broker", "to the coordinator"])
async def test_a_transaction_goes_on_with_the_next_token_when_one_is_refused(secured, authority, expired):
    address, tokens = secured.listener("SECURE"), Tokens(expired)
    plain = KafkaTransport(address, sasl(authority, "PLAIN"))
    tp = await create(plain)
    await write(KafkaTransport(address, sasl(authority, "OAUTHBEARER", oauth_token=tokens)), tp)
    assert tokens.given > 3  # one for finding the cluster, one for each of two connections, one more
    assert await read(plain, tp) == [b"v"]


@pytest.mark.parametrize("failing", [1, 2, 3], ids=["at the start", "to the broker", "to the coordinator"])
async def test_the_function_for_tokens_is_asked_again_when_it_has_raised(secured, authority, failing):
    address, tokens = secured.listener("SECURE"), Tokens()
    plain = KafkaTransport(address, sasl(authority, "PLAIN"))
    tp = await create(plain)

    async def unreliable() -> str:
        if tokens.given == failing - 1:
            tokens.given += 1
            raise LookupError("the vault is sealed")
        return await tokens()

    transport = KafkaTransport(address, sasl(authority, "OAUTHBEARER", oauth_token=unreliable))
    if failing == 1:
        with pytest.raises(BrokerUnavailableError, match="oauth_token has raised LookupError"):
            await write(transport, tp)
    await write(transport, tp)
    assert await read(plain, tp) == [b"v"]


async def test_a_consumer_may_be_started_again_when_its_first_token_was_refused(secured, authority):
    address = secured.listener("SECURE")
    plain = KafkaTransport(address, sasl(authority, "PLAIN"))
    tp = await create(plain)
    await write(plain, tp)
    bearer = KafkaTransport(address, sasl(authority, "OAUTHBEARER", oauth_token=Tokens(1)))
    with pytest.raises(BrokerUnavailableError, match="invalid_token"):
        await bearer.consumer().start()
    assert await read(bearer, tp) == [b"v"]


async def test_a_login_fails_when_a_refusal_is_not_followed_by_an_error():
    login = TokenLogin(OAuthAuthenticator(sasl_oauth_token_provider=TokenProvider(token)))
    assert await login.step(None) is not None
    assert await login.step(b'{"status":"invalid_token"}') == (b"\x01", True)
    with pytest.raises(SaslAuthenticationFailed, match="invalid_token"):
        await login.step(b"")


async def test_start_tells_of_the_authority_when_it_is_not_the_brokers(secured, tmp_path):
    other = Authority(tmp_path / "other")
    transport = KafkaTransport(secured.listener("SECURE"), sasl(other, "PLAIN"))
    with pytest.raises(ConfigError, match=r"certificate verify failed.*ca_file"):
        await transport.start()


@pytest.mark.parametrize(("listener", "tls"), [("MUTUAL", True), ("SECURE", False)], ids=["no certificate", "no tls"])
async def test_start_fails_in_time_when_the_broker_wants_more(secured, authority, listener, tls):
    security = SecurityConfig(protocol="SSL", ca_file=authority.ca) if tls else None
    with pytest.raises((ConfigError, BrokerUnavailableError), match="localhost"):
        await KafkaTransport(secured.listener(listener), security).start()


async def test_nothing_stays_open_when_the_broker_does_not_answer_the_end_of_tls(secured, authority):
    security = SecurityConfig(protocol="SSL", ca_file=authority.ca, cert_file=authority.sign("leaving"))
    client = KafkaClient(Connection(secured.listener("MUTUAL"), security, "leaving"))
    await client.start()
    assert await client.ready(next(iter(client.cluster.brokers())).nodeId)
    began = time.monotonic()
    secured.pause()
    try:
        await client.close()
        assert open_transports.still_open() == []
    finally:
        secured.resume()
    assert time.monotonic() - began < CLOSE_TIMEOUT_S + 1
