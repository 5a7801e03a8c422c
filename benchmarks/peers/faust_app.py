"""The workloads in faust-streaming: one worker, at-least-once, 1 s commits, tables in memory with changelogs.

Arguments, in the environment variable BENCHMARK_ARGUMENTS: workload, broker, application id, input, output and table
topic, data folder, partitions. It imports nothing of the harness, since it runs in an environment of its own.

Tables are in memory, so the disk work that RocksDB state costs the other systems is not in Faust's figures.
"""

import os
import sys
from typing import Any

import faust  # type: ignore[import-not-found]
import orjson
from mode.loop import use as use_loop  # type: ignore[import-not-found]

WINDOW_S = 60
WORKLOAD, BROKER, APPLICATION_ID, SOURCE, SINK, USERS, FOLDER, PARTITIONS = os.environ["BENCHMARK_ARGUMENTS"].split()

use_loop("uvloop")
app = faust.App(
    APPLICATION_ID,
    broker=f"kafka://{BROKER}",
    datadir=FOLDER,
    store="memory://",
    topic_partitions=int(PARTITIONS),
    topic_replication_factor=1,
    topic_disable_leader=True,
    topic_allow_declare=True,
    web_enabled=False,
    broker_commit_interval=1.0,
    broker_max_poll_records=10_000,
    consumer_max_fetch_size=4 << 20,
    consumer_auto_offset_reset="earliest",
    producer_max_batch_size=1 << 20,
    producer_linger=0.1,
    producer_acks=-1,
    stream_buffer_maxsize=16_384,
    stream_wait_empty=False,
    stream_recovery_delay=0.0,
)
RAW: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
source = app.topic(SOURCE, **RAW)
sink = app.topic(SINK, **RAW)


def table(name: str, key_type: type, value_type: type) -> Any:
    return app.Table(name, default=value_type, key_type=key_type, value_type=value_type, partitions=int(PARTITIONS))


async def run_map(stream: Any) -> None:
    async for key, value in stream.items():
        event = orjson.loads(value)
        if event["kind"] != "drop":
            out = {"user": event["user"], "page": event["page"], "cents": event["amount"] * 100, "seq": event["seq"]}
            await sink.send(key=key, value=orjson.dumps(out))


async def run_count(stream: Any) -> None:
    async for event in stream.events():
        key = event.key
        number = counts[key] + 1
        counts[key] = number
        await sink.send(key=key, value=str(number).encode())


async def run_window(stream: Any) -> None:
    async for event in stream.events():
        timestamp = event.message.timestamp
        key = event.key.decode()  # a windowed key goes to its changelog as JSON, so it cannot be bytes
        total = sums[key].value(event) + orjson.loads(event.value)["amount"]
        sums[key] = total
        start = int(timestamp) // WINDOW_S * WINDOW_S * 1000
        await sink.send(key=b"%s@%d" % (event.key, start), value=str(total).encode())


async def run_repartition(stream: Any) -> None:
    async for value in stream:
        page = orjson.loads(value)["page"].encode()
        await by_page.send(key=page, value=value)


async def run_users(stream: Any) -> None:
    async for key, value in stream.items():
        users[key] = orjson.loads(value)


async def run_table_join(stream: Any) -> None:
    async for key, value in stream.items():
        user = users.get(key)
        if user is not None:
            event = orjson.loads(value)
            out = {"user": event["user"], "amount": event["amount"], "seq": event["seq"], "tier": user["tier"]}
            await sink.send(key=key, value=orjson.dumps(out))


if WORKLOAD == "map":
    app.agent(source)(run_map)
elif WORKLOAD == "count":
    counts = table("counts", bytes, int)
    app.agent(source)(run_count)
elif WORKLOAD == "window":
    sums = table("sums", str, int).tumbling(WINDOW_S)
    app.agent(source)(run_window)
elif WORKLOAD == "repartition":
    counts = table("counts", bytes, int)
    by_page = app.topic(f"{APPLICATION_ID}-by-page-repartition", partitions=int(PARTITIONS), internal=True, **RAW)
    app.agent(source, name="by-page")(run_repartition)
    app.agent(by_page, name="count")(run_count)
elif WORKLOAD == "table-join":
    users = table("users", bytes, dict)
    app.agent(app.topic(USERS, **RAW), name="users")(run_users)
    app.agent(source, name="join")(run_table_join)
else:
    raise ValueError(WORKLOAD)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "warn", "--without-web"]
    app.main()
