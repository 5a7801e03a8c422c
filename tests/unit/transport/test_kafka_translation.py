"""Every error of aiokafka becomes the streamlib error that tells its caller what to do."""

import inspect
from collections.abc import Iterator

import aiokafka.errors as kafka
import pytest

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
from streamlib.transport.kafka.translation import RETRIABLE_CODES, error_for, translate

EXPECTED: dict[type[StreamlibError], set[str]] = {
    MissingTopicError: {"UnknownTopicOrPartitionError", "InvalidTopicError"},
    OffsetOutOfRangeError: {"OffsetOutOfRangeError"},
    CommitError: {
        "CommitFailedError",
        "IllegalGenerationError",
        "UnknownMemberIdError",
        "RebalanceInProgressError",
        "NonEmptyGroup",
        "ProducerFenced",
        "InvalidProducerEpoch",
    },
    DeliveryError: {
        "MessageSizeTooLargeError",
        "RecordListTooLargeError",
        "InvalidTimestampError",
        "InvalidRequiredAcksError",
        "OutOfOrderSequenceNumber",
        "DuplicateSequenceNumber",
        "InvalidTxnState",
        "InvalidProducerIdMapping",
        "TransactionCoordinatorFenced",
        "UnknownProducerId",
        "ProducerClosed",
    },
    ConfigError: {
        "AuthenticationFailedError",
        "AuthenticationMethodNotSupported",
        "SaslAuthenticationFailed",
        "UnsupportedSaslMechanismError",
        "IllegalSaslStateError",
        "SecurityDisabled",
        "UnsupportedVersionError",
        "IncompatibleBrokerVersion",
        "UnrecognizedBrokerVersion",
        "UnsupportedCodecError",
        "KafkaConfigurationError",
        "InconsistentGroupProtocolError",
        "InvalidGroupIdError",
        "InvalidSessionTimeoutError",
        "InvalidTransactionTimeout",
        "InvalidPartitionsError",
        "InvalidReplicationFactorError",
        "InvalidReplicationAssignmentError",
        "InvalidConfigurationError",
    },
    BrokerUnavailableError: {
        "KafkaTimeoutError",
        "KafkaUnavailableError",
        "KafkaConnectionError",
        "BrokerNotAvailableError",
        "ReplicaNotAvailableError",
        "StaleLeaderEpochCodeError",
        "ConcurrentTransactions",
        "NoBrokersAvailable",
        "NodeNotReadyError",
        "KafkaProtocolError",
        "CorrelationIdError",
        "Cancelled",
        "TooManyInFlightRequests",
        "StaleMetadata",
        "MetadataEmptyBrokerList",
        "LeaderNotAvailableError",
        "NotLeaderForPartitionError",
        "RequestTimedOutError",
        "GroupLoadInProgressError",
        "CoordinatorLoadInProgressError",
        "GroupCoordinatorNotAvailableError",
        "CoordinatorNotAvailableError",
        "NotCoordinatorForGroupError",
        "NotCoordinatorError",
        "NotEnoughReplicasError",
        "NotEnoughReplicasAfterAppendError",
        "NotControllerError",
        "KafkaStorageError",
    },
}
FATAL = {
    "KafkaError",
    "NoError",
    "UnknownError",
    "IllegalStateError",
    "IllegalArgumentError",
    "IllegalOperation",
    "QuotaViolationError",
    "ConsumerStoppedError",
    "NoOffsetForPartitionError",
    "RecordTooLargeError",
    "CorruptRecordException",
    "InvalidFetchRequestError",
    "StaleControllerEpochError",
    "OffsetMetadataTooLargeError",
    "InvalidCommitOffsetSizeError",
    "TopicAuthorizationFailedError",
    "GroupAuthorizationFailedError",
    "ClusterAuthorizationFailedError",
    "TransactionalIdAuthorizationFailed",
    "TopicAlreadyExistsError",
    "InvalidRequestError",
    "UnsupportedForMessageFormatError",
    "PolicyViolationError",
    "OperationNotAttempted",
    "LogDirNotFound",
    "ReassignmentInProgress",
    "DelegationTokenAuthDisabled",
    "DelegationTokenNotFound",
    "DelegationTokenOwnerMismatch",
    "DelegationTokenRequestNotAllowed",
    "DelegationTokenAuthorizationFailed",
    "DelegationTokenExpired",
    "InvalidPrincipalType",
    "GroupIdNotFound",
    "FetchSessionIdNotFound",
    "InvalidFetchSessionEpoch",
    "ListenerNotFound",
    "MemberIdRequired",
}


def every_error() -> Iterator[type[Exception]]:
    for _, kind in inspect.getmembers(kafka, inspect.isclass):
        if issubclass(kind, Exception) and kind.__module__ == kafka.__name__ and kind is not kafka.BrokerResponseError:
            yield kind


@pytest.mark.parametrize("kind", sorted(set(every_error()), key=lambda kind: kind.__name__))
def test_error_becomes_the_expected_one_when_aiokafka_raises_it(kind: type[Exception]) -> None:
    expected = [ours for ours, names in EXPECTED.items() if kind.__name__ in names]
    assert expected or kind.__name__ in FATAL, f"decide what {kind.__name__} means to our callers"
    translated = translate(kind(), "cannot read")
    assert type(translated) is (expected[0] if expected else TransportError)
    assert str(translated).startswith("cannot read: ")
    assert kind.__name__ in str(translated)


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("reset"), OSError(111, "refused")])
def test_network_errors_are_safe_to_try_again_when_the_system_raises_them(error: Exception) -> None:
    assert type(translate(error, "cannot read")) is BrokerUnavailableError


def test_our_own_error_stays_itself_when_translated() -> None:
    error = MissingTopicError("topic=words does not exist")
    assert translate(error, "cannot read") is error


def test_unknown_errors_are_not_tried_again_when_they_are_bugs() -> None:
    assert type(translate(AssertionError("state"), "cannot commit")) is TransportError


def test_mend_is_named_when_a_permission_is_missing() -> None:
    text = str(translate(kafka.TopicAuthorizationFailedError("words"), "cannot read"))
    assert "words" in text
    assert "grant this principal READ" in text


@pytest.mark.parametrize("code", sorted(RETRIABLE_CODES - {3}))
def test_retriable_codes_are_safe_to_try_again_when_they_become_errors(code: int) -> None:
    assert type(translate(error_for(code), "cannot commit")) is BrokerUnavailableError


def test_number_is_kept_when_aiokafka_does_not_know_the_code() -> None:
    assert "code 82 group=g" in str(error_for(82, "group=g"))
