"""Which broker a command talks to, and how: flags, environment and settings file to an open transport.

Secrets come from the environment or from files, never from flags, which every user of the machine can see.
Next: `settings`, for everything else a worker is told.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from streamlib.cli.options import ENV_PREFIX, option
from streamlib.cli.settings import converted, nearest_hint, read_settings

if TYPE_CHECKING:
    from streamlib.transport.base import Admin, Transport
    from streamlib.transport.security import SecurityConfig

DEFAULT_BROKER_TEXT = "local:.streamlib"
PASSWORD_VARIABLE = f"{ENV_PREFIX}SASL_PASSWORD"
KEY_PASSWORD_VARIABLE = f"{ENV_PREFIX}SSL_KEY_PASSWORD"
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
HIDDEN_IN_FILES = {"password": "password_file", "key_password": KEY_PASSWORD_VARIABLE, "oauth_token": "KafkaStreams"}
"""Security settings that a settings file may not hold, and what to use instead."""


@dataclass(frozen=True)
class BrokerFlags:
    """The broker, and how to authenticate and encrypt; all but the address only for Kafka."""

    broker: Annotated[
        str | None,
        option(
            "--broker",
            "-b",
            help="kafka://HOST:PORT[,HOST:PORT], or local:DIRECTORY.",
            show_default=DEFAULT_BROKER_TEXT,
        ),
    ] = None
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None,
        option("--security-protocol", help="Encryption and login.", case_sensitive=False, show_default="PLAINTEXT"),
    ] = None
    ssl_cafile: Annotated[
        Path | None, option("--ssl-cafile", help="PEM file of trusted authorities.", show_default="the system's")
    ] = None
    ssl_certfile: Annotated[Path | None, option("--ssl-certfile", help="PEM certificate of this client.")] = None
    ssl_keyfile: Annotated[
        Path | None, option("--ssl-keyfile", help=f"Its PEM key; a password is taken from {KEY_PASSWORD_VARIABLE}.")
    ] = None
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] | None,
        option("--sasl-mechanism", help="How to log in.", case_sensitive=False),
    ] = None
    sasl_username: Annotated[str | None, option("--sasl-username", help="For PLAIN and SCRAM.")] = None
    sasl_password_file: Annotated[
        Path | None, option("--sasl-password-file", help=f"A file with the password, or set {PASSWORD_VARIABLE}.")
    ] = None
    sasl_allow_insecure: Annotated[
        bool, option("--sasl-allow-insecure", help="Permit SASL_PLAINTEXT, on a network that you trust.")
    ] = False

    @property
    def settings_file(self) -> Path | None:
        """The settings file, from the environment."""
        path = os.environ.get(CONFIG_VARIABLE)
        return Path(path) if path else None


@dataclass(frozen=True)
class BrokerOptions(BrokerFlags):
    """The broker, also from a settings file."""

    config: Annotated[
        Path | None, option("--config", help="A TOML file: a worker's settings, broker, and a table [security].")
    ] = None

    @property
    def settings_file(self) -> Path | None:
        """The settings file, from the flag or the environment."""
        return self.config


@dataclass(frozen=True)
class Connection:
    """What flags, environment and file come to.

    Attributes:
        address: The broker.
        security: None when nothing was said about it.
        file: Everything in the settings file.
    """

    address: str
    security: "SecurityConfig | None"
    file: Mapping[str, Any]


def resolved(options: BrokerFlags) -> Connection:
    """The connection that the options describe.

    Raises:
        ConfigError: Settings that are unknown, contradict each other, or lie in a file that cannot be read.
    """
    from streamlib.kafka_streams import DEFAULT_BROKER

    file = {} if options.settings_file is None else read_settings(options.settings_file)
    address = options.broker or converted("broker", file.get("broker", DEFAULT_BROKER), str)
    return Connection(address, _security(options, file.get("security", {})), file)


@asynccontextmanager
async def connected(options: BrokerFlags) -> "AsyncIterator[Transport]":
    """An open transport, closed afterwards.

    Raises:
        ConfigError: The options make no sense.
        BrokerUnavailableError, BrokerLockedError: From opening it.
    """
    from streamlib.kafka_streams import connect

    connection = resolved(options)
    transport = connect(connection.address, connection.security, "streamlib-cli")
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def administering(options: BrokerFlags) -> "AsyncIterator[Admin]":
    """A connected admin, closed afterwards; raises what `connected` does."""
    async with connected(options) as transport:
        admin = await transport.admin()
        try:
            yield admin
        finally:
            await admin.close()


def _security(options: BrokerFlags, table: Any) -> "SecurityConfig | None":
    from streamlib.transport.security import SecurityConfig

    given = _from_file(table)
    password_file = options.sasl_password_file or given.pop("password_file", None)
    flags = {
        "protocol": options.security_protocol,
        "ca_file": options.ssl_cafile,
        "cert_file": options.ssl_certfile,
        "key_file": options.ssl_keyfile,
        "key_password": os.environ.get(KEY_PASSWORD_VARIABLE),
        "sasl_mechanism": options.sasl_mechanism,
        "username": options.sasl_username,
        "password": _password(password_file),
        "allow_insecure": options.sasl_allow_insecure or None,
    }
    given |= {name: value for name, value in flags.items() if value is not None}
    return SecurityConfig(**given) if given else None


def _from_file(table: Any) -> dict[str, Any]:
    """The table ``[security]``, typed; ``password_file`` is a Path."""
    from typing import get_type_hints

    from streamlib.errors import ConfigError
    from streamlib.transport.security import SecurityConfig

    if not isinstance(table, Mapping):
        msg = f"security is a table: write [security] above its settings, not security = {table!r}"
        raise ConfigError(msg)
    kinds = get_type_hints(SecurityConfig)
    known = {"password_file", *(entry.name for entry in fields(SecurityConfig))} - HIDDEN_IN_FILES.keys()
    for name in table:
        if name in HIDDEN_IN_FILES:
            msg = f"[security] {name} does not belong in a settings file: use {HIDDEN_IN_FILES[name]}"
            raise ConfigError(msg)
        if name not in known:
            msg = f'unknown setting "{name}" in [security].{nearest_hint(name, known)}'
            raise ConfigError(msg)
    return {name: converted(f"[security] {name}", value, kinds.get(name, Path)) for name, value in table.items()}


def _password(file: Path | None) -> str | None:
    from streamlib.errors import ConfigError

    if file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        msg = f"cannot read the password file {file}: {reason}"
        raise ConfigError(msg) from None
