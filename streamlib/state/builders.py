"""`Stores` describes the stores that processors bring along.

A store is added to the topology by its processor's supplier or with `StreamsBuilder.add_state_store`; each task opens
its own. Source: Stores, StoreBuilder. Next: `spec`, the description; `key_value_facade`, what a processor gets.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TypedDict, Unpack

from streamlib.serdes.base import AnySerde
from streamlib.serdes.primitives import BYTES, INT64
from streamlib.state.custom import CustomStore
from streamlib.state.spec import StoreSpec

MILLISECOND = timedelta(milliseconds=1)


class StoreSettings(TypedDict, total=False):
    """How a store is kept.

    Attributes:
        in_memory: Whether rows live in memory instead of RocksDB.
        caching: Whether updates of one key between two commits are logged once, the last one (off by default).
        logging: Whether the store has a changelog topic (the default); without one its rows die with the worker.
        topic_configs: Settings of the changelog topic.
    """

    in_memory: bool
    caching: bool
    logging: bool
    topic_configs: Mapping[str, str]


class Stores:
    """Describes stores by their kind. A name must be unique in its topology, and fit for a topic's name."""

    @staticmethod
    def key_value_store(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        *,
        ttl: timedelta | None = None,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """The latest value of each key: a `KeyValueStore`.

        Args:
            name: The store's name.
            key_serde: Of the keys.
            value_serde: Of the values.
            ttl: How long a value lives. It is deleted, in the changelog as well, with the first value put once the
                latest time of all values put is later than its own by that, or up to a 64th of it after that.
            settings: See `StoreSettings`.

        Raises:
            ValueError: A time to live below 1 ms.
        """
        spec = StoreSpec(name, "key_value", key_serde, value_serde, timestamped=False, **_kept(settings))
        return replace(spec, ttl_ms=_ttl_ms(name, ttl))

    @staticmethod
    def timestamped_key_value_store(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        *,
        ttl: timedelta | None = None,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """The same with a timestamp for each value: a `TimestampedKeyValueStore`. Raises as `key_value_store`."""
        spec = StoreSpec(name, "key_value", key_serde, value_serde, **_kept(settings))
        return replace(spec, ttl_ms=_ttl_ms(name, ttl))

    @staticmethod
    def key_timers(name: str, key_serde: AnySerde, **settings: Unpack[StoreSettings]) -> StoreSpec:
        """One timer for each key, for `ProcessorContext.key_timers`: a `KeyValueStore` of times."""
        spec = StoreSpec(name, "key_value", key_serde, INT64, timestamped=False, **_kept(settings))
        return replace(spec, key_timers=True)

    @staticmethod
    def lru_map(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        max_entries: int,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """At most so many keys in memory: a `KeyValueStore` that forgets the key that was not used for longest.

        Raises:
            ValueError: Room for less than one key.
        """
        if max_entries < 1:
            msg = f"the store {name!r} needs room for at least 1 key, not {max_entries}"
            raise ValueError(msg)
        kept = _kept({**settings, "in_memory": True})
        return StoreSpec(name, "key_value", key_serde, value_serde, timestamped=False, max_entries=max_entries, **kept)

    @staticmethod
    def window_store(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        *,
        retention: timedelta,
        window_size: timedelta,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """A value for each key and window: a `WindowStore`.

        Args:
            name: The store's name.
            key_serde: Of the plain keys.
            value_serde: Of the values.
            retention: How long a window is kept after the latest one has begun; not below ``window_size``.
            window_size: Tells the end of a window.
            settings: See `StoreSettings`.

        Raises:
            ValueError: The retention is shorter than the window, or a duration is negative.
        """
        times = _window_times(name, retention, window_size)
        return StoreSpec(name, "window", key_serde, value_serde, timestamped=False, **times, **_kept(settings))

    @staticmethod
    def timestamped_window_store(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        *,
        retention: timedelta,
        window_size: timedelta,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """The same with a timestamp for each value: a `TimestampedWindowStore`."""
        times = _window_times(name, retention, window_size)
        return StoreSpec(name, "window", key_serde, value_serde, **times, **_kept(settings))

    @staticmethod
    def session_store(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        *,
        retention: timedelta,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """A value for each key and session: a `SessionStore`.

        Raises:
            ValueError: A negative retention.
        """
        retention_ms = _not_negative(name, "retention", retention)
        return StoreSpec(
            name, "session", key_serde, value_serde, timestamped=False, retention_ms=retention_ms, **_kept(settings)
        )

    @staticmethod
    def versioned_key_value_store(
        name: str,
        key_serde: AnySerde,
        value_serde: AnySerde,
        *,
        history_retention: timedelta,
        **settings: Unpack[StoreSettings],
    ) -> StoreSpec:
        """The values of each key over time: a `VersionedKeyValueStore`, which keeps replaced ones for so long.

        Raises:
            ValueError: A negative retention.
        """
        retention_ms = _not_negative(name, "history retention", history_retention)
        return StoreSpec(name, "versioned", key_serde, value_serde, retention_ms=retention_ms, **_kept(settings))

    @staticmethod
    def custom_store(
        name: str,
        supplier: Callable[[], CustomStore],
        *,
        logging: bool = True,
        topic_configs: Mapping[str, str] | None = None,
    ) -> StoreSpec:
        """A store that the user has written: a `CustomStore`.

        Args:
            name: The store's name.
            supplier: Gives a new store at each call; the class itself will often do.
            logging: Whether it has a changelog topic; without one it begins empty each time, also after an error.
            topic_configs: Settings of that topic, which is compacted.

        Raises:
            TypeError: ``supplier`` cannot be called.
        """
        if not callable(supplier):
            msg = f"the store {name!r} needs a function that makes one, e.g. its class, not {supplier!r}"  # type: ignore[unreachable]
            raise TypeError(msg)
        return StoreSpec(
            name,
            "custom",
            BYTES,
            BYTES,
            timestamped=False,
            persistent=False,
            caching=False,
            logging=logging,
            topic_configs=dict(topic_configs or {}),
            supplier=supplier,
        )


class _Kept(TypedDict):
    persistent: bool
    caching: bool
    logging: bool
    topic_configs: Mapping[str, str]


class _Times(TypedDict):
    retention_ms: int
    window_size_ms: int


def _kept(settings: StoreSettings) -> _Kept:
    """The settings with their defaults.

    Raises:
        TypeError: An unknown one.
    """
    unknown = settings.keys() - StoreSettings.__annotations__.keys()
    if unknown:
        msg = (
            f"no setting of a store: {', '.join(sorted(unknown))}; there are {', '.join(StoreSettings.__annotations__)}"
        )
        raise TypeError(msg)
    return {
        "persistent": not settings.get("in_memory", False),
        "caching": settings.get("caching", False),
        "logging": settings.get("logging", True),
        "topic_configs": dict(settings.get("topic_configs", {})),
    }


def _window_times(name: str, retention: timedelta, window_size: timedelta) -> _Times:
    retention_ms = _not_negative(name, "retention", retention)
    size_ms = _not_negative(name, "window size", window_size)
    if retention_ms < size_ms:
        msg = f"the store {name!r} keeps windows for {retention!r}, which is less than their size of {window_size!r}"
        raise ValueError(msg)
    return {"retention_ms": retention_ms, "window_size_ms": size_ms}


def _ttl_ms(name: str, ttl: timedelta | None) -> int | None:
    if ttl is not None and ttl < MILLISECOND:
        msg = f"values of the store {name!r} must live for at least 1 ms, not {ttl!r}"
        raise ValueError(msg)
    return None if ttl is None else ttl // MILLISECOND


def _not_negative(name: str, what: str, duration: timedelta) -> int:
    if duration < timedelta():
        msg = f"the {what} of the store {name!r} cannot be negative: {duration!r}"
        raise ValueError(msg)
    return duration // MILLISECOND
