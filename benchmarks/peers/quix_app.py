"""The workloads in Quix Streams: one process, at-least-once, 1 s commits, RocksDB with changelogs.

Arguments: workload, broker, consumer group, input, output and table topic, state folder, partitions. It imports
nothing of the harness, since it runs in an environment of its own.
"""

import sys
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]

WINDOW_MS = 60_000
CONSUMER = {"max.partition.fetch.bytes": 4 << 20, "queued.max.messages.kbytes": 65_536, "queued.min.messages": 100_000}
PRODUCER = {"batch.size": 1 << 20, "linger.ms": 100, "queue.buffering.max.messages": 1_000_000}


def paid(event: dict[str, Any]) -> dict[str, Any]:
    return {"user": event["user"], "page": event["page"], "cents": event["amount"] * 100, "seq": event["seq"]}


def count(_: Any, state: Any) -> int:
    number: int = state.get("count", 0) + 1
    state.set("count", number)
    return number


def joint(event: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    return {"user": event["user"], "amount": event["amount"], "seq": event["seq"], "tier": user["tier"]}


def build(app: Any, workload: str, source: str, sink: str, table: str) -> None:
    """Add the workload's pipeline; its output goes to ``sink``."""
    # Counting does not look at the value, so it stays bytes; keys stay bytes everywhere but after a re-keying.
    value_form = "bytes" if workload == "count" else "json"
    events = app.dataframe(app.topic(source, key_deserializer="bytes", value_deserializer=value_form))
    key_form = "bytes"
    if workload == "map":
        results = events.filter(lambda event: event["kind"] != "drop").apply(paid)
    elif workload == "count":
        results = events.apply(count, stateful=True)
    elif workload == "window":
        results = events.apply(lambda event: event["amount"]).tumbling_window(WINDOW_MS).sum().current()
    elif workload == "repartition":
        key_form = "str"
        by_page = events.group_by("page", key_serializer="str", key_deserializer="str")
        results = by_page.apply(count, stateful=True)
    elif workload == "table-join":
        users = app.dataframe(app.topic(table, key_deserializer="bytes", value_deserializer="json"))
        results = events.join_asof(users, how="inner", on_merge=joint)
    else:
        raise ValueError(workload)
    results.to_topic(app.topic(sink, key_serializer=key_form, value_serializer="json"))


def main() -> None:
    workload, broker, group, source, sink, table, folder, _ = sys.argv[1:]
    app = Application(
        broker_address=broker,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=folder,
        consumer_extra_config=CONSUMER,
        producer_extra_config=PRODUCER,
        loglevel="WARNING",
    )
    build(app, workload, source, sink, table)
    app.run()


if __name__ == "__main__":
    main()
