"""Every error code of the Kafka protocol, and the streamlib error it becomes: the only place that decides this.

What a worker then does follows from the class: `errors.action_for`. Codes that are not listed, because a newer broker
has made them up, become a `TransportError`, which stops a worker: going on after an answer nobody understands might
lose records.

Source: Kafka's ``Errors``, release 4.3. Next: `translation`, which makes the errors.
"""

from collections.abc import Mapping

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
)

_BY_CLASS: Mapping[type[StreamlibError], Mapping[int, str]] = {
    BrokerUnavailableError: {
        5: "LEADER_NOT_AVAILABLE",
        6: "NOT_LEADER_OR_FOLLOWER",
        7: "REQUEST_TIMED_OUT",
        8: "BROKER_NOT_AVAILABLE",
        9: "REPLICA_NOT_AVAILABLE",
        13: "NETWORK_EXCEPTION",
        14: "COORDINATOR_LOAD_IN_PROGRESS",
        15: "COORDINATOR_NOT_AVAILABLE",
        16: "NOT_COORDINATOR",
        19: "NOT_ENOUGH_REPLICAS",
        20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        41: "NOT_CONTROLLER",
        51: "CONCURRENT_TRANSACTIONS",
        56: "KAFKA_STORAGE_ERROR",
        70: "FETCH_SESSION_ID_NOT_FOUND",
        71: "INVALID_FETCH_SESSION_EPOCH",
        72: "LISTENER_NOT_FOUND",
        74: "FENCED_LEADER_EPOCH",
        75: "UNKNOWN_LEADER_EPOCH",
        78: "OFFSET_NOT_AVAILABLE",
        80: "PREFERRED_LEADER_NOT_AVAILABLE",
        83: "ELIGIBLE_LEADERS_NOT_AVAILABLE",
        84: "ELECTION_NOT_NEEDED",
        88: "UNSTABLE_OFFSET_COMMIT",
        89: "THROTTLING_QUOTA_EXCEEDED",
        106: "FETCH_SESSION_TOPIC_ID_ERROR",
        129: "REBOOTSTRAP_REQUIRED",
    },
    MissingTopicError: {
        3: "UNKNOWN_TOPIC_OR_PARTITION",
        17: "INVALID_TOPIC_EXCEPTION",
        100: "UNKNOWN_TOPIC_ID",
        103: "INCONSISTENT_TOPIC_ID",
    },
    OffsetOutOfRangeError: {1: "OFFSET_OUT_OF_RANGE"},
    CommitError: {
        22: "ILLEGAL_GENERATION",
        25: "UNKNOWN_MEMBER_ID",
        27: "REBALANCE_IN_PROGRESS",
        47: "INVALID_PRODUCER_EPOCH",
        68: "NON_EMPTY_GROUP",
        79: "MEMBER_ID_REQUIRED",
        82: "FENCED_INSTANCE_ID",
        90: "PRODUCER_FENCED",
        110: "FENCED_MEMBER_EPOCH",
        113: "STALE_MEMBER_EPOCH",
        120: "TRANSACTION_ABORTABLE",
    },
    DeliveryError: {
        45: "OUT_OF_ORDER_SEQUENCE_NUMBER",
        46: "DUPLICATE_SEQUENCE_NUMBER",
        48: "INVALID_TXN_STATE",
        49: "INVALID_PRODUCER_ID_MAPPING",
        52: "TRANSACTION_COORDINATOR_FENCED",
        59: "UNKNOWN_PRODUCER_ID",
    },
    RecordRefusedError: {
        10: "MESSAGE_TOO_LARGE",
        18: "RECORD_LIST_TOO_LARGE",
        32: "INVALID_TIMESTAMP",
        87: "INVALID_RECORD",
    },
    AuthorizationError: {
        29: "TOPIC_AUTHORIZATION_FAILED",
        30: "GROUP_AUTHORIZATION_FAILED",
        31: "CLUSTER_AUTHORIZATION_FAILED",
        53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        65: "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
    },
    ConfigError: {
        12: "OFFSET_METADATA_TOO_LARGE",
        21: "INVALID_REQUIRED_ACKS",
        23: "INCONSISTENT_GROUP_PROTOCOL",
        24: "INVALID_GROUP_ID",
        26: "INVALID_SESSION_TIMEOUT",
        28: "INVALID_COMMIT_OFFSET_SIZE",
        33: "UNSUPPORTED_SASL_MECHANISM",
        34: "ILLEGAL_SASL_STATE",
        35: "UNSUPPORTED_VERSION",
        37: "INVALID_PARTITIONS",
        38: "INVALID_REPLICATION_FACTOR",
        39: "INVALID_REPLICA_ASSIGNMENT",
        40: "INVALID_CONFIG",
        43: "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        44: "POLICY_VIOLATION",
        50: "INVALID_TRANSACTION_TIMEOUT",
        54: "SECURITY_DISABLED",
        58: "SASL_AUTHENTICATION_FAILED",
        61: "DELEGATION_TOKEN_AUTH_DISABLED",
        62: "DELEGATION_TOKEN_NOT_FOUND",
        63: "DELEGATION_TOKEN_OWNER_MISMATCH",
        64: "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
        66: "DELEGATION_TOKEN_EXPIRED",
        67: "INVALID_PRINCIPAL_TYPE",
        73: "TOPIC_DELETION_DISABLED",
        76: "UNSUPPORTED_COMPRESSION_TYPE",
        81: "GROUP_MAX_SIZE_REACHED",
        93: "UNACCEPTABLE_CREDENTIAL",
        97: "PRINCIPAL_DESERIALIZATION_FAILURE",
        104: "INCONSISTENT_CLUSTER_ID",
        111: "UNRELEASED_INSTANCE_ID",
        112: "UNSUPPORTED_ASSIGNOR",
        114: "MISMATCHED_ENDPOINT_TYPE",
        115: "UNSUPPORTED_ENDPOINT_TYPE",
    },
    TransportError: {  # a defect of the broker or of ours, or nothing that we ever ask for
        -1: "UNKNOWN_SERVER_ERROR",
        2: "CORRUPT_MESSAGE",
        4: "INVALID_FETCH_SIZE",
        11: "STALE_CONTROLLER_EPOCH",
        36: "TOPIC_ALREADY_EXISTS",
        42: "INVALID_REQUEST",
        55: "OPERATION_NOT_ATTEMPTED",
        57: "LOG_DIR_NOT_FOUND",
        60: "REASSIGNMENT_IN_PROGRESS",
        69: "GROUP_ID_NOT_FOUND",
        77: "STALE_BROKER_EPOCH",
        85: "NO_REASSIGNMENT_IN_PROGRESS",
        86: "GROUP_SUBSCRIBED_TO_TOPIC",
        91: "RESOURCE_NOT_FOUND",
        92: "DUPLICATE_RESOURCE",
        94: "INCONSISTENT_VOTER_SET",
        95: "INVALID_UPDATE_VERSION",
        96: "FEATURE_UPDATE_FAILED",
        98: "SNAPSHOT_NOT_FOUND",
        99: "POSITION_OUT_OF_RANGE",
        101: "DUPLICATE_BROKER_REGISTRATION",
        102: "BROKER_ID_NOT_REGISTERED",
        105: "TRANSACTIONAL_ID_NOT_FOUND",
        107: "INELIGIBLE_REPLICA",
        108: "NEW_LEADER_ELECTED",
        109: "OFFSET_MOVED_TO_TIERED_STORAGE",
        116: "UNKNOWN_CONTROLLER_ID",
        117: "UNKNOWN_SUBSCRIPTION_ID",
        118: "TELEMETRY_TOO_LARGE",
        119: "INVALID_REGISTRATION",
        121: "INVALID_RECORD_STATE",
        122: "SHARE_SESSION_NOT_FOUND",
        123: "INVALID_SHARE_SESSION_EPOCH",
        124: "FENCED_STATE_EPOCH",
        125: "INVALID_VOTER_KEY",
        126: "DUPLICATE_VOTER",
        127: "VOTER_NOT_FOUND",
        128: "INVALID_REGULAR_EXPRESSION",
        130: "STREAMS_INVALID_TOPOLOGY",
        131: "STREAMS_INVALID_TOPOLOGY_EPOCH",
        132: "STREAMS_TOPOLOGY_FENCED",
        133: "SHARE_SESSION_LIMIT_REACHED",
    },
}

NAMES: Mapping[int, str] = {code: name for codes in _BY_CLASS.values() for code, name in codes.items()}
"""The protocol's own name of each code."""
ERRORS: Mapping[int, type[StreamlibError]] = {code: kind for kind, codes in _BY_CLASS.items() for code in codes}
"""What each code becomes."""

RETRIABLE_CODES = frozenset({3, *_BY_CLASS[BrokerUnavailableError]})
"""Answers after which the same request may be sent again; 3, since metadata may be old."""
MIGRATED_CODES = frozenset({22, 25, 27, 82, 110, 113, 120})
"""Answers of a group that has moved on: stale generation, unknown or fenced member; 120 asks to abort."""
FENCED_CODES = frozenset({47, 90})
"""Answers to a producer whose transactional id is in newer hands, or whose transaction timed out."""
UNSTABLE_OFFSET_COMMIT = 88
