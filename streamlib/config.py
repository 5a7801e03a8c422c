"""Settings of a worker: Kafka Streams' names with ``_`` for ``.``, and its defaults unless the docstring says why not.

Next: `runtime/worker`, which is made from them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from streamlib.error_policies import OnError, fail, policy_of, what_is_wrong
from streamlib.errors import ConfigError
from streamlib.offset_reset import offset_reset

ProcessingGuarantee = Literal["at_least_once", "exactly_once_v2"]

BY_GUARANTEE = -1
MAX_TAGS = 5  # every worker's are sent to the group's leader
MAX_TAG_LENGTH = 100
ERROR_HANDLERS = (
    "deserialization_exception_handler",
    "processing_exception_handler",
    "production_exception_handler",
)
COMMIT_INTERVALS_MS = {"at_least_once": 30_000, "exactly_once_v2": 100}


@dataclass(frozen=True)
class StreamsConfig:
    """Everything a worker can be told.

    Attributes:
        application_id: Names the consumer group, the internal topics and the state directory.
        state_dir: Where stores live, one folder per application id; never a temporary directory by default.
        processing_guarantee: ``at_least_once``, or ``exactly_once_v2``: outputs, changelogs and input offsets of a
            commit are one transaction.
        commit_interval_ms: Time between commits of input offsets, and between flushes of the caches; by default 30 s,
            and 100 ms under ``exactly_once_v2``, where nobody sees a record before its commit.
        transaction_timeout_ms: The broker aborts a transaction that is open for longer. After a crash others wait up to
            so long for the tasks of a worker that does not come back.
        statestore_cache_max_bytes: Memory for write caches, over all stores of this worker; 0 turns caching off. Kafka
            Streams has 10 MiB, for as many entries: a Python object is larger than a Java byte array.
        state_memory_bytes: Memory for RocksDB blocks and memtables and for rows on their way there, over all stores of
            this worker.
        state_min_free_bytes: A worker with stores on disk does not start when the file system of `state_dir` has less
            room, and reads nothing while there is less; it warns when there is less than twice that. 0: never.
        auto_offset_reset: Where to start reading an input topic that has no committed offset: ``earliest``, ``latest``,
            ``by_duration:PT1H`` or a timedelta (at the first record that is not older), or ``none``, which fails.
        replication_factor: Of internal topics; -1 takes the broker's default.
        max_poll_records: Rows taken from the broker in one poll.
        max_task_idle_ms: How long a task waits for an empty input before it goes on without it.
        deserialization_exception_handler: What to do with a record whose bytes its serde refuses: an error policy, or a
            function that is asked; where a node has one of its own, that counts. As text: ``fail``, ``skip``,
            ``dead-letter:TOPIC``, ``retry:ATTEMPTS``.
        processing_exception_handler: The same for a row on which a user function raises.
        production_exception_handler: The same for a row that a sink's serde refuses, or that is too large.
        errors_dead_letter_queue_topic_name: Where dead letters go that are given no topic. None: nowhere.
        errors_max_share: Stop when a larger share of the records of the last minute failed, and at least ten, whatever
            the policies say; 1: never.
        decode_unread_values: Whether values of input topics that no operator looks at (of a count, say) are decoded all
            the same, so that an undecodable one is noticed; False is faster.
        future_timestamps: What to do with a record whose time lies more than `max_future_skew_ms` ahead of this
            machine's clock, and would move stream time there: ``accept`` it as Kafka Streams does, and say so;
            ``clamp`` its time to now, which another run may see otherwise; ``skip`` it; or ``fail``.
        max_future_skew_ms: How far ahead of this machine's clock a record's time may be.
        on_data_loss: What to do when committed offsets lie outside the log, or a topic was deleted, or made anew, that
            held records or state: ``fail``, or go on from the log's ``earliest`` or ``latest`` record.
        session_timeout_ms: After this long without a heartbeat the group gives a worker's tasks away.
        heartbeat_interval_ms: Time between heartbeats, by which a worker hears of a rebalance. All workers pause until
            the last one has heard of it, so it is less than Kafka's 3 s.
        rebalance_timeout_ms: How long the group waits for a member to commit and rejoin.
        stall_timeout_ms: When no record of an input is processed for so long although some wait, the input is fetched
            anew; after the same time again the worker rejoins its group, after the third time it stops with an error.
            Restoring that reads nothing for so long and `transaction_timeout_ms` is mended in the same way. Waiting for
            a broker that is away does not count. 0: never.
        shutdown_timeout_ms: How long a stopping worker may drain and commit.
        repartition_purge_interval_ms: Time between purges of consumed repartition records.
        windowstore_changelog_additional_retention_ms: Added to the retention of window changelogs.
        broker_start_timeout_ms: How long a starting worker waits for a broker that does not answer.
        loop_budget_ms: The event loop is not held longer than this.
        emit_interval_ms: Least time between two looks for windows that have closed and outer-join rows whose time is
            over; 0 looks at every record.
        close_windows_after_idle_ms: Once a windowed aggregation, a suppressed table or an outer join has got no records
            for so long on the wall clock, its stream time moves on with that, by all the time since its last record,
            and closes what it holds; aggregations drop and count records that are then too late. Take more time than
            the broker may be away or a worker stand still: records that come after that are late too. 0: never.
        accept_topology_change: Whether to run although state or internal topics of the topology that ran last do not
            fit this one, and what they hold is lost. Set it for one start.
        group_instance_id: Static membership: a restart within the session timeout causes no rebalance.
        num_standby_replicas: Workers that keep a copy of each task with state, besides the one that runs it, so that it
            goes on at once when that one is lost.
        acceptable_recovery_lag: A worker may be given a task whose state here lacks so many changelog records.
        max_warmup_replicas: Tasks in the whole group whose state is being built up at another worker to move there.
        probing_rebalance_interval_ms: How long until the group looks again whether tasks may move. A worker on which
            all is ready for them asks earlier.
        client_tags: Where this worker runs, as names and values: ``{"rack": "a"}``.
        rack_aware_assignment_tags: Names of tags; copies of a task go to workers that differ in their values.
        state_cleanup_delay_ms: State of tasks that others run is deleted when it was not used for so long.
        topic_configs: Overrides for every internal topic.
    """

    application_id: str
    state_dir: Path = field(default_factory=lambda: Path.home() / ".local" / "state" / "streamlib")
    processing_guarantee: ProcessingGuarantee = "at_least_once"
    commit_interval_ms: int = BY_GUARANTEE
    transaction_timeout_ms: int = 10_000
    statestore_cache_max_bytes: int = 64 * 1024 * 1024
    state_memory_bytes: int = 256 * 1024 * 1024
    state_min_free_bytes: int = 64 * 1024 * 1024
    auto_offset_reset: str | timedelta = "earliest"
    replication_factor: int = -1
    max_poll_records: int = 2_000
    max_task_idle_ms: int = 0
    deserialization_exception_handler: OnError = field(default_factory=fail)
    processing_exception_handler: OnError = field(default_factory=fail)
    production_exception_handler: OnError = field(default_factory=fail)
    errors_dead_letter_queue_topic_name: str | None = None
    errors_max_share: float = 1.0
    decode_unread_values: bool = True
    future_timestamps: Literal["accept", "clamp", "skip", "fail"] = "accept"
    max_future_skew_ms: int = 3_600_000
    on_data_loss: Literal["fail", "earliest", "latest"] = "fail"
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 500
    rebalance_timeout_ms: int = 60_000
    stall_timeout_ms: int = 60_000
    shutdown_timeout_ms: int = 30_000
    repartition_purge_interval_ms: int = 30_000
    windowstore_changelog_additional_retention_ms: int = 86_400_000
    broker_start_timeout_ms: int = 60_000
    loop_budget_ms: int = 50
    emit_interval_ms: int = 1_000
    close_windows_after_idle_ms: int = 0
    accept_topology_change: bool = False
    group_instance_id: str | None = None
    num_standby_replicas: int = 0
    acceptable_recovery_lag: int = 10_000
    max_warmup_replicas: int = 2
    probing_rebalance_interval_ms: int = 600_000
    client_tags: Mapping[str, str] = field(default_factory=dict)
    rack_aware_assignment_tags: tuple[str, ...] = ()
    state_cleanup_delay_ms: int = 600_000
    topic_configs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what depends on the guarantee.

        Raises:
            ConfigError: Settings that contradict each other.
        """
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                msg = f'{name}="{getattr(self, name)}" is not known: use {" or ".join(get_args(kind))}'
                raise ConfigError(msg)
        if self.commit_interval_ms == BY_GUARANTEE:
            object.__setattr__(self, "commit_interval_ms", COMMIT_INTERVALS_MS[self.processing_guarantee])
        try:
            offset_reset(self.auto_offset_reset)
        except ValueError as error:
            msg = f"auto_offset_reset {error}"
            raise ConfigError(msg) from None
        if self.exactly_once and self.commit_interval_ms >= self.transaction_timeout_ms:
            msg = (
                f"commit_interval_ms={self.commit_interval_ms} is not below "
                f"transaction_timeout_ms={self.transaction_timeout_ms}: the broker would abort every transaction. "
                "Commit more often, or raise transaction_timeout_ms."
            )
            raise ConfigError(msg)
        self._check_errors()
        self._check_assignment()

    def _check_assignment(self) -> None:
        if self.num_standby_replicas < 0 or self.max_warmup_replicas < 1 or self.acceptable_recovery_lag < 0:
            msg = "num_standby_replicas and acceptable_recovery_lag are 0 or more, max_warmup_replicas is 1 or more"
            raise ConfigError(msg)
        if len(self.client_tags) > MAX_TAGS or any(
            len(text) > MAX_TAG_LENGTH for pair in self.client_tags.items() for text in pair
        ):
            msg = f"client_tags are at most {MAX_TAGS}, their names and values at most {MAX_TAG_LENGTH} characters long"
            raise ConfigError(msg)
        for tag in self.rack_aware_assignment_tags:
            if tag not in self.client_tags:
                msg = f'rack_aware_assignment_tags names "{tag}", which this worker has not in its client_tags'
                raise ConfigError(msg)

    def _check_errors(self) -> None:
        for name in ERROR_HANDLERS:
            given = getattr(self, name)
            if isinstance(given, str):
                object.__setattr__(self, name, policy_of(given))
            elif (wrong := what_is_wrong(given)) is not None:
                raise ConfigError(f"{name}: {wrong}")
        if not 0 < self.errors_max_share <= 1:
            msg = f"errors_max_share={self.errors_max_share} is no share above 0, up to 1: 0.05 is 5 %"
            raise ConfigError(msg)

    @property
    def exactly_once(self) -> bool:
        """Whether commits are transactions."""
        return self.processing_guarantee == "exactly_once_v2"

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "StreamsConfig":
        """A config from names and values; dots in names count as underscores.

        Raises:
            ConfigError: An unknown name (the nearest known one is named), or a missing application id.
        """
        known = {entry.name for entry in fields(cls)}
        values = {name.replace(".", "_"): value for name, value in settings.items()}
        if "topology_optimization" in values:
            msg = 'topology_optimization is decided when the topology is built: builder.build(optimization="all")'
            raise ConfigError(msg)
        for name in values:
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                hint = f' Did you mean "{nearest[0]}"?' if nearest else f" Known settings: {', '.join(sorted(known))}."
                msg = f'unknown setting "{name}".{hint}'
                raise ConfigError(msg)
        if not values.get("application_id"):
            msg = "a worker needs an application_id: it names the consumer group, the internal topics and the state"
            raise ConfigError(msg)
        return cls(**values)
