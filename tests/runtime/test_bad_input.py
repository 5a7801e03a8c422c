"""Bad input: a clear message that names the place and the mend, and nothing lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.errors import (
    ConfigError,
    DeserializationError,
    InternalTopicError,
    MissingTopicError,
    OffsetOutOfRangeError,
    ProcessingError,
    SerdeError,
    StateDirLockedError,
    StateStoreError,
    TopologyError,
)

TEXT = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def numbers(serde=serdes.JSON):
    builder = StreamsBuilder("numbers")
    (
        builder.stream("in", key_serde=serdes.STRING, value_serde=serde)
        .map_values(lambda value: 100 // value, name="divide")
        .group_by_key()
        .reduce(lambda total, value: total + value, store="sums", value_serde=serdes.INT64)
        .to_stream()
        .to("out")
    )
    return builder.build()


async def sums(app) -> dict[bytes, int]:
    return {key: int.from_bytes(value, "big") for key, value, _ in await app.read("out")}


async def test_an_undecodable_value_stops_the_worker_and_loses_nothing(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1), ("a", "{broken", 2), ("a", "20", 3)])
    with pytest.raises(DeserializationError) as caught:
        await app.run(numbers(), "in")
    for part in ("value (json)", "task=0_0", "topic=in", "partition=0", "offset=1", b"{broken".hex(), "skip"):
        assert part in str(caught.value)
    streams = await app.run(numbers(), "in", deserialization_exception_handler="skip")
    assert await sums(app) == {b"a": 15}
    assert streams.metrics.total("dropped_records_total", reason="deserialization-error") == 1


async def test_a_raising_function_is_named_with_the_record_and_nothing_is_lost(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1), ("a", "0", 2), ("a", "20", 3)])
    with pytest.raises(ProcessingError) as caught:
        await app.run(numbers(), "in")
    for part in ("ZeroDivisionError", "task=0_0", "node=divide", "topic=in", "partition=0", "offset=1", "timestamp=2"):
        assert part in str(caught.value)
    assert await app.lag("numbers", ["in"]) in (None, 3)
    streams = await app.run(numbers(), "in", processing_exception_handler="skip")
    assert await sums(app) == {b"a": 15}
    assert streams.metrics.total("dropped_records_total", reason="processing-error") == 1


async def test_null_keys_are_dropped_and_counted_where_a_key_is_needed(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [(None, "10", 1), ("a", "10", 2)])
    streams = await app.run(numbers(), "in")
    assert await sums(app) == {b"a": 10}
    assert streams.metrics.total("dropped_records_total", reason="null-key") == 1


async def test_a_negative_timestamp_stops_the_worker_with_its_place(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", -1)])
    with pytest.raises(ProcessingError, match=r"negative timestamp -1.*topic=in partition=0 offset=0"):
        await app.run(numbers(), "in")


async def test_a_value_that_does_not_fit_the_sink_is_named(app) -> None:
    builder = StreamsBuilder("unfit")
    builder.stream("in", **TEXT).to("out", value_serde=serdes.INT64)
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "text", 1)])
    with pytest.raises(SerdeError, match=r"value serde int64 cannot write a str.*topic=out.*offset=0"):
        await app.run(builder.build(), "in")


async def test_a_joined_topic_of_another_width_is_refused_before_anything_is_created(app) -> None:
    builder = StreamsBuilder("unlike")
    table = builder.table("table", **TEXT, store="rows")
    builder.stream("stream", **TEXT).join(table, lambda left, right: left).to("out")
    await app.create(2, "stream", "out")
    await app.create(3, "table")
    with pytest.raises(TopologyError, match=r'"stream" \(2 partitions\) with "table" \(3 partitions\)'):
        await app.run(builder.build(), "stream")
    async with app.opened() as transport:
        admin = await transport.admin()
        assert sorted(await admin.partition_counts()) == ["out", "stream", "table"]
        await admin.close()


@pytest.mark.parametrize(
    ("partitions", "configs", "message"),
    [
        (5, {"cleanup.policy": "compact"}, "has 5 partitions, the topology needs 1"),
        (1, {"cleanup.policy": "delete"}, "has cleanup.policy=delete, it must be compact"),
    ],
)
async def test_an_internal_topic_that_is_wrong_is_refused(app, partitions, configs, message) -> None:
    await app.create(1, "in", "out")
    await app.create(partitions, "numbers-sums-changelog", **configs)
    with pytest.raises(InternalTopicError, match=message):
        await app.run(numbers(), "in")


async def test_committed_offsets_outside_the_log_stop_the_worker_unless_told_otherwise(app) -> None:
    from streamlib.record import TopicPartition

    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", n) for n in range(3)])
    await app.run(numbers(), "in")
    await app.produce("in", [("a", "10", n) for n in range(3, 6)])
    async with app.opened() as transport:
        admin = await transport.admin()
        await admin.delete_records({TopicPartition("in", 0): 5})
        await admin.close()
    with pytest.raises(OffsetOutOfRangeError, match=r"committed offset 3 .*topic=in partition=0: 2 records are gone"):
        await app.run(numbers(), "in")
    await app.run(numbers(), "in", on_data_loss="earliest")
    assert await sums(app) == {b"a": 40}


async def test_a_corrupt_store_is_set_aside_and_rebuilt(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1)])
    await app.run(numbers(), "in")
    manifests = list(Path(app.state_dir).rglob("MANIFEST-*"))
    assert manifests
    for manifest in manifests:
        manifest.write_bytes(b"garbage" * 10)
    await app.produce("in", [("a", "20", 2)])
    await app.run(numbers(), "in")
    assert await sums(app) == {b"a": 15}
    assert list(Path(app.state_dir).rglob("*corrupt*"))


async def test_local_state_ahead_of_its_changelog_is_rebuilt(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1), ("b", "10", 1)])
    await app.run(numbers(), "in")
    async with app.opened() as transport:
        admin = await transport.admin()
        await admin.delete_topics(["numbers-sums-changelog"])
        await admin.close()
    (app.state_dir / "w0" / "numbers" / "topics.json").unlink()  # else it would show that this is another topic
    await app.produce("in", [("a", "20", 2)])
    await app.run(numbers(), "in")
    assert await sums(app) == {b"a": 5, b"b": 10}


async def test_a_state_directory_in_use_by_another_process_is_refused(app) -> None:
    await app.create(1, "in", "out")
    program = (
        "import sys, pathlib\n"
        "from streamlib.state.directory import StateDirectory\n"
        "from streamlib.state.rocksdb import RocksMemory\n"
        f"d = StateDirectory.open(pathlib.Path({str(app.state_dir / 'w0')!r}), 'numbers', RocksMemory(1 << 20))\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StateDirLockedError, match=str(other.pid)):
            await app.run(numbers(), "in")
        other.communicate("")


def test_an_unknown_setting_names_the_nearest_one() -> None:
    from streamlib import KafkaStreams

    with pytest.raises(ConfigError, match=r'unknown setting "comit_interval_ms".*"commit_interval_ms"'):
        KafkaStreams(numbers(), {"comit_interval_ms": 5})


async def test_a_missing_source_topic_is_named_on_a_shared_broker(app) -> None:
    await app.create(1, "out")
    with pytest.raises(MissingTopicError, match=r'source topic does not exist: "in".*streamlib topics create in'):
        await app.run(numbers(), "in")


async def test_a_worker_with_stores_does_not_start_without_room_for_them(app) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1)])
    with pytest.raises(StateStoreError, match=r"MiB free, and a worker needs state_min_free_bytes=.*another state_dir"):
        await app.run(numbers(), "in", state_min_free_bytes=1 << 62)
    streams = await app.run(numbers(), "in")
    assert await sums(app) == {b"a": 10}
    assert any(name == "state_dir_free_bytes" and free > 0 for name, _, free in streams.metrics)


async def test_a_worker_warns_when_room_for_its_stores_runs_out(app, caplog) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1)])
    free = shutil.disk_usage(app.state_dir).free
    await app.run(numbers(), "in", state_min_free_bytes=free * 3 // 4)
    assert "MiB free: free some space before it is too little" in caplog.text


async def test_a_worker_without_stores_on_disk_needs_no_room(app) -> None:
    builder = StreamsBuilder("light")
    builder.stream("in", **TEXT).to("out")
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1)])
    await app.run(builder.build(), "in", state_min_free_bytes=1 << 62)
