"""Settings of a worker: Kafka Streams' names with ``_`` for ``.``, and its defaults unless the docstring says why not.

Next: `runtime/worker`, which is made from them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from streamlib.errors import ConfigError
from streamlib.offset_reset import offset_reset

ProcessingGuarantee = Literal["at_least_once", "exactly_once_v2"]
ErrorPolicy = Literal["fail", "skip"]

BY_GUARANTEE = -1
DEFAULTS_BY_GUARANTEE = (("commit_interval_ms", 30_000, 100), ("state_apply_interval_ms", 10_000, 0))


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
        state_memory_bytes: Memory for RocksDB blocks and memtables, over all stores of this worker.
        state_apply_interval_ms: How long stores on disk may lag behind their changelogs; a crashed worker replays so
            much. 0 writes them at every commit, which is the default under ``exactly_once_v2``.
        auto_offset_reset: Where to start reading an input topic that has no committed offset: ``earliest``, ``latest``,
            ``by_duration:PT1H`` or a timedelta (at the first record that is not older), or ``none``, which fails.
        replication_factor: Of internal topics; -1 takes the broker's default.
        max_poll_records: Rows taken from the broker in one poll.
        max_task_idle_ms: How long a task waits for an empty input before it goes on without it.
        deserialization_error: What to do with a record whose bytes its serde refuses.
        processing_error: What to do with a row on which a user function raises.
        decode_unread_values: Whether values of input topics that no operator looks at (of a count, say) are decoded all
            the same, so that an undecodable one is noticed; False is faster.
        on_data_loss: What to do when committed offsets lie outside the log.
        session_timeout_ms: After this long without a heartbeat the group gives a worker's tasks away.
        heartbeat_interval_ms: Time between heartbeats.
        rebalance_timeout_ms: How long the group waits for a member to commit and rejoin.
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
        topic_configs: Overrides for every internal topic.
    """

    application_id: str
    state_dir: Path = field(default_factory=lambda: Path.home() / ".local" / "state" / "streamlib")
    processing_guarantee: ProcessingGuarantee = "at_least_once"
    commit_interval_ms: int = BY_GUARANTEE
    transaction_timeout_ms: int = 10_000
    statestore_cache_max_bytes: int = 64 * 1024 * 1024
    state_memory_bytes: int = 256 * 1024 * 1024
    state_apply_interval_ms: int = BY_GUARANTEE
    auto_offset_reset: str | timedelta = "earliest"
    replication_factor: int = -1
    max_poll_records: int = 2_000
    max_task_idle_ms: int = 0
    deserialization_error: ErrorPolicy = "fail"
    processing_error: ErrorPolicy = "fail"
    decode_unread_values: bool = True
    on_data_loss: Literal["fail", "earliest", "latest"] = "fail"
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 3_000
    rebalance_timeout_ms: int = 60_000
    shutdown_timeout_ms: int = 30_000
    repartition_purge_interval_ms: int = 30_000
    windowstore_changelog_additional_retention_ms: int = 86_400_000
    broker_start_timeout_ms: int = 60_000
    loop_budget_ms: int = 50
    emit_interval_ms: int = 1_000
    close_windows_after_idle_ms: int = 0
    accept_topology_change: bool = False
    group_instance_id: str | None = None
    topic_configs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what depends on the guarantee.

        Raises:
            ConfigError: Settings that contradict each other.
        """
        if self.processing_guarantee not in get_args(ProcessingGuarantee):
            known = " or ".join(get_args(ProcessingGuarantee))
            msg = f'processing_guarantee="{self.processing_guarantee}" is not known: use {known}'
            raise ConfigError(msg)
        for name, at_least_once, exactly_once in DEFAULTS_BY_GUARANTEE:
            if getattr(self, name) == BY_GUARANTEE:
                object.__setattr__(self, name, exactly_once if self.exactly_once else at_least_once)
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
