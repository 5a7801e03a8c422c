"""How to prove who we are to a broker, and to know that it is the broker: one dataclass, no network.

Next: `transport/kafka/client`, which renders it for the Kafka driver.
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streamlib.errors import ConfigError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"]

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")
WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class SecurityConfig:
    """Security of connections to Kafka; checked when made. Its repr shows no secrets.

    Attributes:
        protocol: Kafka's ``security.protocol``.
        ca_file: PEM certificates of authorities to trust; None for those of the operating system.
        cert_file: PEM certificate chain of this client, for mutual TLS.
        key_file: PEM key of ``cert_file``; None when it is in the same file.
        key_password: Password of the key.
        sasl_mechanism: Kafka's ``sasl.mechanism``; required by the two SASL protocols, refused by the others.
        username: For PLAIN and SCRAM.
        password: For PLAIN and SCRAM.
        kerberos_service_name: First part of the brokers' principals, for GSSAPI; the ticket comes from kinit.
        kerberos_domain_name: Host part of the brokers' principals; None for the host connected to.
        oauth_token: Returns a fresh bearer token, for OAUTHBEARER; called for each connection.
        allow_insecure: Permit SASL without TLS, where anyone on the path can read or take over the session.

    Raises:
        ConfigError: The settings contradict each other, or one is missing.
    """

    protocol: SecurityProtocol = "PLAINTEXT"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    sasl_mechanism: SaslMechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    kerberos_service_name: str = "kafka"
    kerberos_domain_name: str | None = None
    oauth_token: Callable[[], Awaitable[str]] | None = field(default=None, repr=False)
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise ConfigError(problem)

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def sasl(self) -> bool:
        """Whether connections log in."""
        return self.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}

    def ssl_context(self) -> ssl.SSLContext | None:
        """A context that checks the broker's certificate and host name, None without TLS.

        Raises:
            ConfigError: A file cannot be read, or is not what it should be.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file, self.key_password)
        except (OSError, ValueError) as error:
            files = ", ".join(str(file) for file in (self.ca_file, self.cert_file, self.key_file) if file is not None)
            msg = f"cannot load the TLS files {files}: {error}. They must be PEM files that this user can read"
            raise ConfigError(msg) from error
        return context

    def _problem(self) -> str | None:
        if self.protocol not in PROTOCOLS:
            return f"unknown security protocol {self.protocol!r}: use one of {', '.join(PROTOCOLS)}"
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            return f"certificate files are given, but {self.protocol} is not encrypted: use SSL or SASL_SSL"
        if self.key_file is not None and self.cert_file is None:
            return "key_file is given without cert_file: mutual TLS needs both"
        return self._sasl_problem()

    def _sasl_problem(self) -> str | None:
        if not self.sasl:
            if self.sasl_mechanism is None:
                return None
            return f"sasl_mechanism is given, but {self.protocol} does not log in: use SASL_SSL"
        if self.sasl_mechanism not in MECHANISMS:
            return (
                f"{self.protocol} needs a sasl_mechanism, one of {', '.join(MECHANISMS)}, not {self.sasl_mechanism!r}"
            )
        if self.sasl_mechanism in WITH_PASSWORD and not (self.username and self.password):
            return f"{self.sasl_mechanism} needs a username and a password"
        if self.sasl_mechanism == "OAUTHBEARER" and self.oauth_token is None:
            return "OAUTHBEARER needs oauth_token: a function that returns a token"
        if not self.tls and not self.allow_insecure:
            return (
                f"SASL_PLAINTEXT with {self.sasl_mechanism} lets anyone on the way to the broker read or take over the "
                "session: use SASL_SSL, or set allow_insecure for a network that you trust"
            )
        return None
