"""Every error of aiokafka becomes the streamlib error that tells its caller what to do."""

import inspect
from collections.abc import Iterator

import aiokafka.errors as kafka
import pytest

from streamlib.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    CommitError,
    ConfigError,
    DeliveryError,
    MissingTopicError,
    OffsetOutOfRangeError,
    RecordRefusedError,
    StreamlibError,
    TransportError,
    action_for,
)
from streamlib.transport.kafka.error_codes import ERRORS, FENCED_CODES, MIGRATED_CODES, NAMES, RETRIABLE_CODES
from streamlib.transport.kafka.translation import Caller, error_for, translate

EXPECTED: dict[type[StreamlibError], set[str]] = {
    MissingTopicError: {"UnknownTopicOrPartitionError", "InvalidTopicError"},
    OffsetOutOfRangeError: {"OffsetOutOfRangeError"},
    CommitError: {
        "CommitFailedError",
        "IllegalGenerationError",
        "UnknownMemberIdError",
        "RebalanceInProgressError",
        "NonEmptyGroup",
        "MemberIdRequired",
        "ProducerFenced",
        "InvalidProducerEpoch",
    },
    DeliveryError: {
        "OutOfOrderSequenceNumber",
        "DuplicateSequenceNumber",
        "InvalidTxnState",
        "InvalidProducerIdMapping",
        "TransactionCoordinatorFenced",
        "UnknownProducerId",
        "ProducerClosed",
    },
    RecordRefusedError: {"MessageSizeTooLargeError", "RecordListTooLargeError", "InvalidTimestampError"},
    AuthorizationError: {
        "TopicAuthorizationFailedError",
        "GroupAuthorizationFailedError",
        "ClusterAuthorizationFailedError",
        "TransactionalIdAuthorizationFailed",
        "DelegationTokenAuthorizationFailed",
    },
    ConfigError: {
        "OffsetMetadataTooLargeError",
        "InvalidRequiredAcksError",
        "InvalidCommitOffsetSizeError",
        "UnsupportedForMessageFormatError",
        "PolicyViolationError",
        "DelegationTokenAuthDisabled",
        "DelegationTokenNotFound",
        "DelegationTokenOwnerMismatch",
        "DelegationTokenRequestNotAllowed",
        "DelegationTokenExpired",
        "InvalidPrincipalType",
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
        "FetchSessionIdNotFound",
        "InvalidFetchSessionEpoch",
        "ListenerNotFound",
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
    "TopicAlreadyExistsError",
    "InvalidRequestError",
    "OperationNotAttempted",
    "LogDirNotFound",
    "ReassignmentInProgress",
    "GroupIdNotFound",
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


@pytest.mark.parametrize(
    ("error", "operation", "who_what", "command"),
    [
        (
            kafka.TopicAuthorizationFailedError("words"),
            "Read",
            "User:alice may not Read the topic words.",
            "--allow-principal User:alice --operation Read --topic words",
        ),
        (
            error_for(29, "topic=words partition=3"),
            "Write",
            "User:alice may not Write the topic words.",
            "--operation Write --topic words",
        ),
        (
            kafka.TopicAuthorizationFailedError({"two", "one"}),
            "",
            "User:alice may not Describe the topic one, two.",
            "--operation Describe --topic one --topic two",
        ),
        (
            kafka.GroupAuthorizationFailedError("counting"),
            "",
            "User:alice may not Read the group counting.",
            "--operation Read --group counting",
        ),
        (
            kafka.TransactionalIdAuthorizationFailed("counting-1"),
            "Write",
            "User:alice may not Write the transactional id counting-1.",
            "--operation Write --transactional-id counting-1",
        ),
        (error_for(31), "Create", "User:alice may not Create the cluster.", "--operation Create --cluster"),
    ],
)
def test_who_may_not_do_what_is_told_with_the_command_that_permits_it(
    error: Exception, operation: str, who_what: str, command: str
) -> None:
    told = translate(error, "cannot go on", Caller("User:alice", "host:9092"), operation)
    assert type(told) is AuthorizationError
    assert who_what in str(told)
    assert "kafka-acls --bootstrap-server host:9092 --add " in str(told)
    assert str(told).endswith(command)


LAST_CODE = 133  # of Kafka 4.3
ACTIONS = {
    "retry": {*range(5, 10), *range(13, 17), 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88, 89, 106, 129},
    "start over": {1, 22, 25, 27, 45, 46, 47, 48, 49, 52, 59, 68, 79, 82, 90, 110, 113, 120},
    "apply the policy": {10, 18, 32, 87},
    "refuse": {
        *(3, 12, 17, 21, 23, 24, 26, 28, 29, 30, 31, 33, 34, 35, 37, 38, 39, 40, 43, 44, 50, 53, 54, 58),
        *(61, 62, 63, 64, 65, 66, 67, 73, 76, 81, 93, 97, 100, 103, 104, 111, 112, 114, 115),
    },
}


@pytest.mark.parametrize("code", [-1, *range(1, LAST_CODE + 1), 134, 200, 32_767])
def test_every_answer_of_a_broker_has_one_consequence(code: int) -> None:
    told = translate(error_for(code, "group=g"), "cannot go on")
    assert type(told) is ERRORS.get(code, TransportError)
    found = [action for action, codes in ACTIONS.items() if code in codes]
    assert [action_for(told)] == (found or ["stop"])
    assert str(told).startswith("cannot go on: ")
    if code not in NAMES:
        assert f"an error of a newer broker (code {code})" in str(told)


def test_every_code_of_the_protocol_is_listed_once() -> None:
    assert sorted(NAMES) == [-1, *range(1, LAST_CODE + 1)]
    assert len(set(NAMES.values())) == len(NAMES)
    assert NAMES.keys() == ERRORS.keys()


def test_codes_that_requests_handle_by_themselves_agree_with_the_table() -> None:
    assert {ERRORS[code] for code in RETRIABLE_CODES - {3}} == {BrokerUnavailableError}
    assert {ERRORS[code] for code in MIGRATED_CODES | FENCED_CODES} == {CommitError}


def test_answers_that_aiokafka_tries_again_are_never_final() -> None:
    retried = {kind.errno for kind in every_error() if getattr(kind, "retriable", False) and hasattr(kind, "errno")}
    assert retried <= RETRIABLE_CODES


def test_number_and_name_are_kept_when_aiokafka_does_not_know_the_code() -> None:
    assert "FENCED_INSTANCE_ID (code 82) group=g" in str(error_for(82, "group=g"))
