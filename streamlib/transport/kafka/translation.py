"""Turns whatever aiokafka, asyncio or the system raises into streamlib's own errors.

Answers of a broker are looked up in `error_codes`. What aiokafka raises by itself, without a broker's answer, is sorted
here. A message names what failed and how to mend it; a missing permission, the command that grants it.
"""

import shlex
from collections.abc import Collection
from dataclasses import dataclass

import aiokafka.errors as kafka

from streamlib.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    CommitError,
    ConfigError,
    DeliveryError,
    StreamlibError,
    TransportError,
)
from streamlib.transport.base import GroupMetadata
from streamlib.transport.kafka.error_codes import ERRORS, NAMES

_OWN_ERRORS: tuple[tuple[type[StreamlibError], tuple[type[Exception], ...]], ...] = (
    (CommitError, (kafka.CommitFailedError, kafka.ProducerFenced)),
    (DeliveryError, (kafka.ProducerClosed,)),
    (
        ConfigError,
        (
            kafka.AuthenticationFailedError,
            kafka.AuthenticationMethodNotSupported,
            kafka.IncompatibleBrokerVersion,
            kafka.UnrecognizedBrokerVersion,
            kafka.UnsupportedCodecError,
            kafka.KafkaConfigurationError,
        ),
    ),
    (BrokerUnavailableError, (kafka.KafkaTimeoutError, kafka.KafkaUnavailableError, TimeoutError, OSError)),
)
"""Errors of aiokafka and the system that are no broker's answer, nor marked as safe to try again by aiokafka."""

_MENDS: dict[type[BaseException], str] = {
    kafka.InconsistentGroupProtocolError: "members of this group use another assignor; give the application its own id",
    kafka.InvalidSessionTimeoutError: "keep session_timeout_ms between the broker's group.min.session.timeout.ms and "
    "group.max.session.timeout.ms",
    kafka.InvalidTransactionTimeout: "raise the broker's transaction.max.timeout.ms",
    kafka.MessageSizeTooLargeError: "raise the topic's max.message.bytes, or write smaller records",
    kafka.InvalidTimestampError: "see the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    kafka.OffsetMetadataTooLargeError: "raise the broker's offset.metadata.max.bytes",
    kafka.SaslAuthenticationFailed: "check the username and the password, or the token, its lifetime and the clocks",
}
_GRANTS = {
    29: ("topic", "--topic", ("Describe", "Read", "Write", "Create", "Delete", "DescribeConfigs")),
    30: ("group", "--group", ("Read", "Describe", "Delete")),
    31: ("cluster", "--cluster", ("Describe", "Create", "IdempotentWrite")),
    53: ("transactional id", "--transactional-id", ("Write",)),
}
"""What a refused permission is for, the option of ``kafka-acls`` that names it, and its operations, the usual first."""


@dataclass(frozen=True)
class Caller:
    """Who asked, and whom: for messages about permissions.

    Attributes:
        principal: As brokers know us, ``User:alice``; a placeholder where only brokers can tell.
        address: ``host:port`` of some brokers.
    """

    principal: str = "User:NAME"
    address: str = "HOST:PORT"


UNKNOWN_CALLER = Caller()


class UnlistedError(kafka.UnknownError):  # type: ignore[misc]
    """A broker's answer that aiokafka has no class for.

    Attributes:
        errno: Its code.
    """

    def __init__(self, code: int, detail: str) -> None:
        self.errno = code
        super().__init__(f"{NAMES.get(code, 'an error of a newer broker')} (code {code}) {detail}".strip())


def translate(error: BaseException, doing: str, caller: Caller = UNKNOWN_CALLER, operation: str = "") -> StreamlibError:
    """The streamlib error that stands for ``error``; raise it ``from`` the original.

    Args:
        error: What aiokafka, asyncio or the operating system raised.
        doing: What failed, as the start of a sentence: ``cannot read topic=words partition=3``.
        caller: Who asked whom.
        operation: What permission it takes, by the name that ``kafka-acls`` has for it, if not the usual one.
    """
    if isinstance(error, StreamlibError):
        return error
    kind = _kind(error)
    if kind is AuthorizationError:
        needed = _grant(error, caller, operation)
        return AuthorizationError(f"{doing}: {describe(error)}. {needed}", needed)
    mend = _MENDS.get(type(error))
    return kind(f"{doing}: {describe(error)}" + (f". To mend it, {mend}" if mend else ""))


def _kind(error: BaseException) -> type[StreamlibError]:
    if isinstance(error, kafka.BrokerResponseError):
        listed = ERRORS.get(error.errno)
        if listed is not None:
            return listed
    for kind, classes in _OWN_ERRORS:
        if isinstance(error, classes):
            return kind
    if isinstance(error, kafka.KafkaError) and error.retriable:
        return BrokerUnavailableError
    return TransportError


def _grant(error: BaseException, caller: Caller, operation: str) -> str:
    """Who may not do what, and the command that permits it."""
    what, option, operations = _GRANTS.get(getattr(error, "errno", 0), _GRANTS[31])
    needed = operation if operation in operations else operations[0]
    told = error.args[0] if error.args else ""
    names = sorted(told) if isinstance(told, list | tuple | set | frozenset) else [str(told)]
    named = [_resource(name, what) for name in names]
    flags = [option] if what == "cluster" else [f"{option} {shlex.quote(name)}" for name in named]
    which = "the cluster" if what == "cluster" else f"the {what} {', '.join(named)}"
    return (
        f"{caller.principal} may not {needed} {which}. An administrator permits it with: kafka-acls "
        f"--bootstrap-server {caller.address} --add --allow-principal {shlex.quote(caller.principal)} "
        f"--operation {needed} {' '.join(flags)}"
    )


def _resource(told: str, what: str) -> str:
    """The name of a topic or group in what an error says: that alone, or as in ``topic=words partition=3``."""
    first = told.split(" ", maxsplit=1)[0]
    return first.rpartition("=")[2] or f"NAME-OF-THE-{what.upper().replace(' ', '-')}"


def describe(error: BaseException) -> str:
    """Name and message of an error, on one line."""
    text = str(error).strip()
    name = type(error).__name__
    return " ".join((text if text.startswith(name) else f"{name}: {text}").split()) if text else name


def error_for(code: int, detail: str = "") -> Exception:
    """The aiokafka exception of a protocol error code; codes that it does not know keep their number."""
    kind: type[Exception] = kafka.for_code(code)
    if kind is kafka.UnknownError:
        return UnlistedError(code, detail)
    return kind(detail) if detail else kind()


def refusal(group: GroupMetadata, codes: Collection[int]) -> str:
    """The message for offsets that a group refused because it has moved on."""
    told = ", ".join(f"{NAMES.get(code, 'code')} {code}" for code in sorted(codes))
    return (
        f"group={group.group_id} generation={group.generation} member={group.member_id}: the group has moved on and "
        f"refuses these offsets ({told}). Drop the work: the new owner of the tasks does it again"
    )
