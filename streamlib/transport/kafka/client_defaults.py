"""Settings of the Kafka clients, each with its reason: where they are not Kafka's or aiokafka's own, or matter most.

What users may change is in `StreamsConfig` and reaches the clients from there: session, heartbeat, rebalance and
transaction timeouts. Everything else of this driver is fixed here. Next: `client`, `consumer`, `producer`.
"""

# ---- every connection ---------------------------------------------------------------------------------------------

REQUEST_TIMEOUT_MS = 15_000
"""Kafka has 30 s, aiokafka 40 s: a broker that hangs is noticed well within a session."""
METADATA_MAX_AGE_MS = 60_000
"""Kafka has five minutes: deleted topics and new leaders show sooner, for one small request a minute."""
METADATA_PAUSE_S = 0.1
"""Between two requests for metadata, whoever asks: many may wait for the same leader."""
START_TIMEOUT_S = 10.0
"""For the first answer of any broker."""
CLOSE_TIMEOUT_S = 2.0
"""For closing connections, which wait for nothing of worth."""
ANSWER_TIMEOUT_S = 15.0
"""How long a question about topics, offsets or groups is repeated before its caller decides."""

# ---- consumers ----------------------------------------------------------------------------------------------------

ENABLE_AUTO_COMMIT = False
"""Kafka has it on: a commit is the worker's, after state and output."""
AUTO_OFFSET_RESET = "none"
"""Kafka has ``latest``, which skips records in silence; where to begin, and what to do about loss, the worker says."""
CHECK_CRCS = True
"""A batch that was damaged on its way is not read."""
MAX_PARTITION_FETCH_BYTES = 1024 * 1024
FETCH_MAX_BYTES = 50 * 1024 * 1024
"""Both as in Kafka: what a backlog costs in memory is bounded by them, and not by its length."""
COMMIT_TIMEOUT_S = 30.0
"""For an answer to a commit: while the group's coordinator moves, there is none."""
STABLE_TIMEOUT_S = 60.0
"""For offsets on which a transaction is pending: the broker aborts one that nobody ends."""
LEAVE_TIMEOUT_S = 5.0
"""For leaving the group; without an answer the session ends by itself."""

# ---- producers ----------------------------------------------------------------------------------------------------

ACKS = -1
"""All replicas in sync; and every producer is idempotent, also at least once: retries neither lose nor repeat."""
MAX_REQUEST_SIZE = 1024 * 1024
"""Of one record, as in Kafka; at most what topics take (``max.message.bytes``)."""
BATCH_SIZE = 256 * 1024
"""Kafka has 16 KiB: larger batches cost less time for each record."""
BUFFER_BYTES = 32 * 1024 * 1024
"""Kafka's ``buffer.memory``: beyond it the worker waits."""
LINGER_S = 0.005
"""As in Kafka 4: records of a few milliseconds share a batch; a commit does not wait for it."""
RETRY_BACKOFF_MS = 50
PRODUCER_START_TIMEOUT_S = 15.0
"""For a producer id; with a transactional id the coordinator may have to end an older transaction first."""
DELIVERY_TIMEOUT_S = 120.0
"""As in Kafka: without any acknowledgement for so long, the worker is told; trying goes on."""
TRANSACTION_TIMEOUT_MS = 10_000
"""Kafka's clients have a minute, Kafka Streams 10 s: the records of a crashed worker block its successor so long."""
END_TIMEOUT_S = 30.0
"""For the end of a transaction."""
PRODUCER_CLOSE_TIMEOUT_S = 10.0
NO_COMPRESSION = 0


def producer_request_timeout_ms(transaction_timeout_ms: int | None) -> int:
    """How long a producer waits for an answer.

    In a transaction that is shorter than for others, so that a broker that hangs is noticed, and its successor asked,
    before the transaction times out and its work is lost.

    Args:
        transaction_timeout_ms: None without transactions.
    """
    return (
        REQUEST_TIMEOUT_MS if transaction_timeout_ms is None else min(REQUEST_TIMEOUT_MS, transaction_timeout_ms // 2)
    )
