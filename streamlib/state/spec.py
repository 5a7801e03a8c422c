"""What a store is, as data: made by `topology`, opened by `runtime`. Next: `base`, what an opened store can do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from streamlib.serdes.base import AnySerde

StoreKind = Literal["key_value", "window", "session", "versioned", "buffer", "join_buffer", "custom"]


@dataclass(frozen=True)
class StoreSpec:
    """A state store of a topology.

    Attributes:
        name: As in the Java library; its changelog is ``<application id>-<name>-changelog``.
        kind: Which interface it has.
        key_serde: Of the plain key (inside the window for windowed stores).
        value_serde: Of the value.
        timestamped: Whether user code sees the timestamp of a row's last update (all stores the DSL makes).
        persistent: RocksDB; otherwise memory.
        caching: One update per key and commit goes downstream and to the changelog.
        logging: Whether it has a changelog topic.
        retention_ms: Windowed stores: how long a row is kept after stream time has passed its start. Versioned
            stores: how long a value can be looked up after it was replaced.
        window_size_ms: Window stores: size of a window; None for others.
        retain_duplicates: Window stores of joins: several rows per key and window start, of any length of time up to
            the window's size. Key-value stores of joins: a list of values per key.
        exact_expiry: Window stores of joins, session stores: a row expires on its own, as in Java's stores in memory.
        time_ordered: Window stores: the windows of all keys that start in a short time are read at little cost.
        inclusive_retention: Window stores: a row is kept 1 ms longer, as in Java's time-ordered stores on disk.
        ttl_ms: Key-value stores: a row is deleted when stream time is later than its timestamp by this; None: never.
        key_timers: Key-value stores: they hold timers of a processor.
        max_entries: Key-value stores in memory: how many keys it holds at most; None for any number.
        source_topic: The topic that serves as the changelog: for a global table, or a table that reuses its source.
        topic_configs: Overrides for the changelog topic, from the user.
        supplier: Custom stores: makes one.
    """

    name: str
    kind: StoreKind
    key_serde: AnySerde
    value_serde: AnySerde
    timestamped: bool = True
    persistent: bool = True
    caching: bool = True
    logging: bool = True
    retention_ms: int = 0
    window_size_ms: int | None = None
    retain_duplicates: bool = False
    exact_expiry: bool = False
    time_ordered: bool = False
    inclusive_retention: bool = False
    ttl_ms: int | None = None
    key_timers: bool = False
    max_entries: int | None = None
    source_topic: str | None = None
    topic_configs: Mapping[str, str] = field(default_factory=dict)
    supplier: Callable[[], Any] | None = None

    @property
    def expires(self) -> bool:
        """Whether its rows go when stream time has passed them by its retention, in the changelog by age, too."""
        return self.kind in {"window", "session"}

    @property
    def is_table(self) -> bool:
        """Whether it has the interface of `state.base.TimestampedStore`: rows with a timestamp, one for each key."""
        if self.kind == "session":
            return True  # the timestamp of a session is its end
        return self.kind in {"key_value", "versioned", "window"} and self.timestamped and not self.retain_duplicates
