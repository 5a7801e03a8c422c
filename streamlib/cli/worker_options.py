"""The flags of ``streamlib worker``: each a setting of `StreamsConfig`, whose default it shows. Next: `worker`."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from streamlib.cli.options import option
from streamlib.cli.settings import streams_config
from streamlib.cli.times import duration_ms
from streamlib.config import StreamsConfig

if TYPE_CHECKING:
    from streamlib.topology.topology import Topology

TARGET_HELP = "The topology: app:topology, or app:make() to call a factory."
POLICIES = "fail (the default), skip, dead-letter:TOPIC, retry:N or retry:N:dead-letter:TOPIC"
_DEFAULTS = {entry.name: entry.default for entry in fields(StreamsConfig) if entry.default is not MISSING}


def setting(flag: str, name: str, help: str, **more: Any) -> Any:  # noqa: A002
    """The option for a setting, showing its default."""
    default = _DEFAULTS[name]
    shown = False if default is None else f"{default} ms" if name.endswith("_ms") else str(default)
    return option(flag, help=help, show_default=shown, **more)


@dataclass(frozen=True)
class WorkerOptions:
    """Settings of a worker; None for a flag that was not given."""

    application_id: Annotated[
        str | None,
        option(
            "--application-id", help="Consumer group and prefix of internal topics.", show_default="topology's name"
        ),
    ] = None
    state_dir: Annotated[
        Path | None,
        option("--state-dir", help="Where state is kept on this machine.", show_default="~/.local/state/streamlib"),
    ] = None
    commit_interval: Annotated[
        str | None, setting("--commit-interval", "commit_interval_ms", "Time between commits, e.g. 30s or 100ms.")
    ] = None
    cache_bytes: Annotated[
        int | None,
        setting("--cache-bytes", "statestore_cache_max_bytes", "Memory for write caches; 0 for none.", min=0),
    ] = None
    on_deserialization_error: Annotated[
        str | None,
        option("--on-deserialization-error", metavar="POLICY", help=f"For bytes that a serde refuses: {POLICIES}."),
    ] = None
    on_processing_error: Annotated[
        str | None,
        option("--on-processing-error", metavar="POLICY", help="For records on which a user function raises."),
    ] = None
    on_production_error: Annotated[
        str | None,
        option("--on-production-error", metavar="POLICY", help="For results that a sink cannot write."),
    ] = None
    dead_letter_topic: Annotated[
        str | None,
        setting("--dead-letter-topic", "errors_dead_letter_queue_topic_name", "Of dead letters without a topic."),
    ] = None
    errors_max_share: Annotated[
        float | None,
        setting("--errors-max-share", "errors_max_share", "Stop when more records of the last minute fail; 1: never."),
    ] = None
    on_data_loss: Annotated[
        Literal["fail", "earliest", "latest"] | None,
        setting("--on-data-loss", "on_data_loss", "When committed offsets lie outside the log."),
    ] = None
    auto_offset_reset: Annotated[
        str | None,
        setting(
            "--auto-offset-reset",
            "auto_offset_reset",
            "Where to start an input without committed offset: earliest, latest, by_duration:PT1H, or none, to fail.",
        ),
    ] = None
    replication_factor: Annotated[
        int | None,
        setting("--replication-factor", "replication_factor", "Of internal topics; -1: the broker's default."),
    ] = None
    session_timeout_ms: Annotated[
        int | None,
        setting("--session-timeout-ms", "session_timeout_ms", "Silence after which tasks are given away.", min=1),
    ] = None
    shutdown_timeout: Annotated[
        str | None, setting("--shutdown-timeout", "shutdown_timeout_ms", "Time for the last commit, e.g. 30s.")
    ] = None
    group_instance_id: Annotated[
        str | None, setting("--group-instance-id", "group_instance_id", "Static membership, for quick restarts.")
    ] = None
    standby_replicas: Annotated[
        int | None,
        setting("--standby-replicas", "num_standby_replicas", "Workers that keep a copy of each task's state.", min=0),
    ] = None
    client_tags: Annotated[
        list[str] | None,
        option("--client-tag", metavar="NAME=VALUE", help="Where this worker runs, e.g. rack=a; may be repeated."),
    ] = None
    sets: Annotated[
        list[str] | None,
        option("--set", metavar="NAME=VALUE", help="Any setting of StreamsConfig; may be repeated, wins over flags."),
    ] = None

    def config(self, topology: "Topology", file: Mapping[str, Any], slot: int | None) -> StreamsConfig:
        """The worker's config.

        Args:
            topology: Its name is the default application id.
            file: The settings file.
            slot: Which of several workers on this machine it is: each has a state directory and static membership of
                its own.

        Raises:
            ConfigError: A setting that is unknown or cannot work.
        """
        flags: dict[str, Any] = {
            "application_id": self.application_id,
            "state_dir": self.state_dir,
            "commit_interval_ms": _ms(self.commit_interval),
            "statestore_cache_max_bytes": self.cache_bytes,
            "deserialization_exception_handler": self.on_deserialization_error,
            "processing_exception_handler": self.on_processing_error,
            "production_exception_handler": self.on_production_error,
            "errors_dead_letter_queue_topic_name": self.dead_letter_topic,
            "errors_max_share": self.errors_max_share,
            "on_data_loss": self.on_data_loss,
            "auto_offset_reset": self.auto_offset_reset,
            "replication_factor": self.replication_factor,
            "session_timeout_ms": self.session_timeout_ms,
            "shutdown_timeout_ms": _ms(self.shutdown_timeout),
            "group_instance_id": self.group_instance_id,
            "num_standby_replicas": self.standby_replicas,
            "client_tags": ",".join(self.client_tags) if self.client_tags else None,
        }
        defaults = {} if topology.name is None else {"application_id": topology.name}
        config = streams_config(flags, self.sets or (), {**defaults, **file})
        return config if slot is None else in_slot(config, slot)


def in_slot(config: StreamsConfig, slot: int) -> StreamsConfig:
    """The config of one of several workers on this machine."""
    from dataclasses import replace

    member = config.group_instance_id
    return replace(
        config,
        state_dir=config.state_dir / str(slot),
        group_instance_id=None if member is None else f"{member}-{slot}",
    )


def _ms(text: str | None) -> int | None:
    return None if text is None else duration_ms(text)
