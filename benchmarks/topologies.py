"""The workloads in streamlib: ``streamlib worker benchmarks.topologies:count()``.

Topics are named after the run, in the environment variable BENCHMARK_ID, as `benchmarks.systems.base.Job` names them.
"""

import os
from datetime import timedelta

import msgspec

from streamlib import JoinWindows, SessionWindows, StreamsBuilder, TimeWindows, Topology, serdes

RUN = os.environ.get("BENCHMARK_ID", "bench")
INPUT, OUTPUT, TABLE = f"{RUN}-in", f"{RUN}-out", f"{RUN}-table"


class Event(msgspec.Struct, frozen=True):
    user: str
    page: str
    amount: int
    seq: int
    kind: str


class Paid(msgspec.Struct, frozen=True):
    user: str
    page: str
    cents: int
    seq: int


class User(msgspec.Struct, frozen=True):
    user: str
    tier: str


class Joint(msgspec.Struct, frozen=True):
    user: str
    amount: int
    seq: int
    tier: str


EVENT = serdes.json(Event)


def map() -> Topology:  # noqa: A001
    """Leave out a quarter of the records, change the rest."""
    builder = StreamsBuilder(RUN)
    (
        builder.stream(INPUT, serdes.STRING, EVENT)
        .filter(lambda _, event: event.kind != "drop")
        .map_values(lambda event: Paid(event.user, event.page, event.amount * 100, event.seq))
        .to(OUTPUT, value_serde=serdes.json(Paid))
    )
    return builder.build()


def count() -> Topology:
    """Records of each key. The value is not looked at, so it stays bytes."""
    builder = StreamsBuilder(RUN)
    (builder.stream(INPUT, serdes.STRING, serdes.BYTES).group_by_key().count(store="counts").to_stream().to(OUTPUT))
    return builder.build()


def window() -> Topology:
    """Sum of each key's amounts in each minute of event time."""
    builder = StreamsBuilder(RUN)
    (
        builder.stream(INPUT, serdes.STRING, EVENT)
        .group_by_key()
        .windowed_by(TimeWindows.of(timedelta(minutes=1)))
        .aggregate(lambda: 0, lambda _, event, total: total + event.amount, value_serde=serdes.INT64, store="sums")
        .to_stream()
        .to(OUTPUT)
    )
    return builder.build()


def repartition() -> Topology:
    """Records of each page, which is not the key."""
    builder = StreamsBuilder(RUN)
    (
        builder.stream(INPUT, serdes.STRING, EVENT)
        .group_by(lambda _, event: event.page, name="by-page", key_serde=serdes.STRING)
        .count(store="counts")
        .to_stream()
        .to(OUTPUT)
    )
    return builder.build()


def table_join() -> Topology:
    """Each record with the row of its key in a table."""
    builder = StreamsBuilder(RUN)
    users = builder.table(TABLE, serdes.STRING, serdes.json(User), store="users")
    (
        builder.stream(INPUT, serdes.STRING, EVENT)
        .join(users, lambda event, user: Joint(event.user, event.amount, event.seq, user.tier))
        .to(OUTPUT, value_serde=serdes.json(Joint))
    )
    return builder.build()


def stream_join() -> Topology:
    """Each record with the login of its user at most a minute away."""
    builder = StreamsBuilder(RUN)
    logins = builder.stream(TABLE, serdes.STRING, serdes.json(User))
    (
        builder.stream(INPUT, serdes.STRING, EVENT)
        .join(
            logins,
            lambda event, user: Joint(event.user, event.amount, event.seq, user.tier),
            JoinWindows.of(timedelta(minutes=1), grace=timedelta(minutes=10)),
            store="joined",
        )
        .to(OUTPUT, value_serde=serdes.json(Joint))
    )
    return builder.build()


def session() -> Topology:
    """Records of each key that come at most five seconds after one another.

    Without grace a session is kept for no longer than the gap. One that was written, and grows by a record at exactly
    that distance, could then not be found any more to be deleted when the cache is flushed, here as in Kafka Streams.
    """
    builder = StreamsBuilder(RUN)
    (
        builder.stream(INPUT, serdes.STRING, serdes.BYTES)
        .group_by_key()
        .windowed_by(SessionWindows.of(timedelta(seconds=5), grace=timedelta(seconds=10)))
        .count(store="sessions")
        .to_stream()
        .to(OUTPUT)
    )
    return builder.build()


def foreign_key_join() -> Topology:
    """The newest record of each key with the row of its page."""
    builder = StreamsBuilder(RUN)
    pages = builder.table(TABLE, serdes.STRING, serdes.json(User), store="pages")
    (
        builder.table(INPUT, serdes.STRING, EVENT, store="events")
        .join(
            pages,
            lambda event, page: Joint(event.user, event.amount, event.seq, page.tier),
            foreign_key=lambda _, event: event.page,
            store="joined",
            value_serde=serdes.json(Joint),
        )
        .to_stream()
        .to(OUTPUT)
    )
    return builder.build()
