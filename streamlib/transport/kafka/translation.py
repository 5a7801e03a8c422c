"""Turns whatever aiokafka raises into streamlib's own errors: one function, one table.

- safe to try again: `BrokerUnavailableError`
- the topic is not there: `MissingTopicError`
- a position outside the log: `OffsetOutOfRangeError`
- the group, or a newer producer, took over: `CommitError`
- a record was not written: `DeliveryError`
- credentials or settings do not fit: `ConfigError`
- anything else, missing permissions too: `TransportError`
"""

from collections.abc import Collection

import aiokafka.errors as kafka

from streamlib.errors import (
    BrokerUnavailableError,
    CommitError,
    ConfigError,
    DeliveryError,
    MissingTopicError,
    OffsetOutOfRangeError,
    StreamlibError,
    TransportError,
)
from streamlib.transport.base import GroupMetadata

RETRIABLE_CODES = frozenset({3, 5, 6, 7, 13, 14, 15, 16, 19, 20, 41, 51, 56})
"""Answers after which the same request may be sent again."""
MIGRATED_CODES = frozenset({22, 25, 27, 82, 120})
"""Answers of a group that has moved on: stale generation, unknown or fenced member; 120 asks to abort."""
FENCED_CODES = frozenset({47, 90})
"""Answers to a producer whose transactional id is in newer hands, or whose transaction timed out."""
UNSTABLE_OFFSET_COMMIT = 88

_KINDS: tuple[tuple[type[StreamlibError], tuple[type[Exception], ...]], ...] = (
    (MissingTopicError, (kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError)),
    (OffsetOutOfRangeError, (kafka.OffsetOutOfRangeError,)),
    (
        CommitError,
        (
            kafka.CommitFailedError,
            kafka.IllegalGenerationError,
            kafka.UnknownMemberIdError,
            kafka.RebalanceInProgressError,
            kafka.NonEmptyGroup,
            kafka.ProducerFenced,
            kafka.InvalidProducerEpoch,
        ),
    ),
    (
        DeliveryError,
        (
            kafka.MessageSizeTooLargeError,
            kafka.RecordListTooLargeError,
            kafka.InvalidTimestampError,
            kafka.InvalidRequiredAcksError,
            kafka.OutOfOrderSequenceNumber,
            kafka.DuplicateSequenceNumber,
            kafka.InvalidTxnState,
            kafka.InvalidProducerIdMapping,
            kafka.TransactionCoordinatorFenced,
            kafka.UnknownProducerId,
            kafka.ProducerClosed,
        ),
    ),
    (
        ConfigError,
        (
            kafka.AuthenticationFailedError,
            kafka.AuthenticationMethodNotSupported,
            kafka.SaslAuthenticationFailed,
            kafka.UnsupportedSaslMechanismError,
            kafka.IllegalSaslStateError,
            kafka.SecurityDisabled,
            kafka.UnsupportedVersionError,
            kafka.IncompatibleBrokerVersion,
            kafka.UnrecognizedBrokerVersion,
            kafka.UnsupportedCodecError,
            kafka.KafkaConfigurationError,
            kafka.InconsistentGroupProtocolError,
            kafka.InvalidGroupIdError,
            kafka.InvalidSessionTimeoutError,
            kafka.InvalidTransactionTimeout,
            kafka.InvalidPartitionsError,
            kafka.InvalidReplicationFactorError,
            kafka.InvalidReplicationAssignmentError,
            kafka.InvalidConfigurationError,
        ),
    ),
    (
        BrokerUnavailableError,
        (
            kafka.KafkaTimeoutError,
            kafka.KafkaUnavailableError,
            kafka.BrokerNotAvailableError,
            kafka.ReplicaNotAvailableError,
            kafka.StaleLeaderEpochCodeError,  # 13, which the protocol calls NETWORK_EXCEPTION
            kafka.ConcurrentTransactions,
            TimeoutError,
            OSError,
        ),
    ),
)

_MENDS: dict[type[BaseException], str] = {
    kafka.TopicAuthorizationFailedError: "grant this principal READ, WRITE and DESCRIBE on the topic",
    kafka.GroupAuthorizationFailedError: "grant this principal READ and DESCRIBE on the group",
    kafka.TransactionalIdAuthorizationFailed: "grant this principal WRITE and DESCRIBE on the transactional id",
    kafka.ClusterAuthorizationFailedError: "grant this principal the operation on the cluster",
    kafka.InconsistentGroupProtocolError: "members of this group use another assignor; give the application its own id",
    kafka.InvalidSessionTimeoutError: "keep session_timeout_ms between the broker's group.min.session.timeout.ms and "
    "group.max.session.timeout.ms",
    kafka.InvalidTransactionTimeout: "raise the broker's transaction.max.timeout.ms",
    kafka.MessageSizeTooLargeError: "raise the topic's max.message.bytes, or write smaller records",
    kafka.SaslAuthenticationFailed: "check the username and the password",
}


def translate(error: BaseException, doing: str) -> StreamlibError:
    """The streamlib error that stands for ``error``; raise it ``from`` the original.

    Args:
        error: What aiokafka, asyncio or the operating system raised.
        doing: What failed, as the start of a sentence: ``cannot read topic=words partition=3``.
    """
    if isinstance(error, StreamlibError):
        return error
    mend = _MENDS.get(type(error))
    text = f"{doing}: {describe(error)}" + (f". To mend it, {mend}" if mend else "")
    for kind, classes in _KINDS:
        if isinstance(error, classes):
            return kind(text)
    if isinstance(error, kafka.KafkaError) and error.retriable:
        return BrokerUnavailableError(text)
    return TransportError(text)


def describe(error: BaseException) -> str:
    """Name and message of an error, on one line."""
    text = str(error).strip()
    name = type(error).__name__
    return " ".join((text if text.startswith(name) else f"{name}: {text}").split()) if text else name


def error_for(code: int, detail: str = "") -> Exception:
    """The aiokafka exception of a protocol error code; codes that it does not know keep their number."""
    kind: type[Exception] = kafka.for_code(code)
    if kind is kafka.UnknownError:
        return kafka.UnknownError(f"code {code} {detail}".strip())
    return kind(detail) if detail else kind()


def refusal(group: GroupMetadata, codes: Collection[int]) -> str:
    """The message for offsets that a group refused because it has moved on."""
    told = ", ".join(str(code) for code in sorted(codes))
    return (
        f"group={group.group_id} generation={group.generation} member={group.member_id}: the group has moved on and "
        f"refuses these offsets (code {told}). Drop the work: the new owner of the tasks does it again"
    )
