"""Probes get answers, everybody else gets a refusal."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from streamlib import ConfigError, KafkaStreams, ProcessingError, StreamsBuilder, serdes
from streamlib.record import TopicPartition
from streamlib.transport.base import TopicSpec
from streamlib.transport.memory import MemoryBroker, MemoryTransport
from streamlib.web.prometheus import exposition
from streamlib.web.server import CONNECTIONS, HEAD_BYTES, HealthServer


def refuse(_: str) -> str:
    raise ValueError("bad value")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def streams(tmp_path: Path, broker: MemoryBroker) -> KafkaStreams:
    builder = StreamsBuilder("web")
    builder.stream("in", serdes.STRING, serdes.STRING).map_values(refuse).to("out")
    admin = await MemoryTransport(broker).admin()
    await admin.create_topics([TopicSpec("in", 1, 1), TopicSpec("out", 1, 1)])
    await admin.close()
    return KafkaStreams(builder.build(), {"state_dir": tmp_path}, transport=MemoryTransport(broker))


async def ask(server: HealthServer, text: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(text.encode("latin-1"))
    await writer.drain()
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert int(headers["content-length"]) == len(body.encode())
    return int(first.split()[1]), headers, body


async def get(server: HealthServer, path: str, host: str | None = None) -> tuple[int, dict[str, str], str]:
    name = f"127.0.0.1:{server.port}" if host is None else host
    return await ask(server, f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n")


async def test_a_worker_is_alive_and_gets_ready_when_it_starts(streams: KafkaStreams) -> None:
    async with HealthServer(streams, 0) as server:
        status, _, body = await get(server, "/health")
        assert (status, json.loads(body)["ready"]) == (200, False)
        assert (await get(server, "/ready"))[0] == 503
        async with streams:
            async with asyncio.timeout(10):
                while (answer := await get(server, "/ready"))[0] != 200:
                    await asyncio.sleep(0.02)
            told = json.loads(answer[2])
            assert told["tasks"] == {"0_0": "running"}
            assert (told["alive"], told["ready"], told["problems"], told["stalled"]) == (True, True, [], [])
            streams.stop()
            status, _, body = await get(server, "/ready")
            assert (status, json.loads(body)["problems"]) == (503, ["the worker stops"])


async def test_a_worker_is_not_alive_when_it_has_failed(streams: KafkaStreams, broker: MemoryBroker) -> None:
    producer = MemoryTransport(broker).producer()
    await producer.start()
    producer.append(TopicPartition("in", 0), [b"k"], [b"v"], [1])
    await producer.close()
    async with HealthServer(streams, 0) as server:

        async def run() -> None:
            async with streams:
                async with asyncio.timeout(10):
                    while not streams.failed:
                        await asyncio.sleep(0.01)
                status, _, body = await get(server, "/health")
                assert status == 503
                assert "bad value" in json.loads(body)["problems"][0]

        with pytest.raises(ProcessingError, match="bad value"):
            await run()


async def test_metrics_are_in_the_text_format(streams: KafkaStreams) -> None:
    streams.metrics.count("records_processed_total", 12)
    streams.metrics.dropped('no"de', "null-key", 3)
    streams.metrics.gauge("loop_lag_seconds", 0.25)
    async with HealthServer(streams, 0) as server:
        status, headers, body = await get(server, "/metrics?name=x")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert body == exposition(streams.metrics)
    assert body.splitlines() == [
        "# TYPE streamlib_dropped_records_total counter",
        'streamlib_dropped_records_total{node="no\\"de",reason="null-key"} 3',
        "# TYPE streamlib_loop_lag_seconds gauge",
        "streamlib_loop_lag_seconds 0.25",
        "# TYPE streamlib_records_processed_total counter",
        "streamlib_records_processed_total 12",
    ]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:{port}", "localhost:1", "", "127.0.0.1:"])
async def test_a_request_is_refused_when_it_was_made_for_another_host(streams: KafkaStreams, host: str) -> None:
    async with HealthServer(streams, 0) as server:
        status, _, body = await get(server, "/metrics", host.format(port=server.port))
        expected = 200 if host == "127.0.0.1:" else 421
        assert status == expected
        assert expected == 200 or json.loads(body) == {"error": f"ask for http://127.0.0.1:{server.port}"}
        assert (await get(server, "/metrics", f"localhost:{server.port}"))[0] == 200


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET /health HTTP/1.1\r\n\r\n", 421),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 421),
        ("POST /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /../health HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /health\r\nHost: localhost\r\n\r\n", 400),
        ("\x16\x03\x01 \r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nx: " + "y" * HEAD_BYTES + "\r\n\r\n", 431),
    ],
)
async def test_a_request_is_refused_when_it_is_not_a_plain_get_of_a_page(
    streams: KafkaStreams, text: str, status: int
) -> None:
    async with HealthServer(streams, 0) as server:
        assert (await ask(server, text))[0] == status


async def test_one_more_is_refused_when_many_connections_say_nothing(streams: KafkaStreams) -> None:
    async with HealthServer(streams, 0) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(CONNECTIONS)]
        await asyncio.sleep(0)
        assert (await get(server, "/health"))[0] == 503
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while (await get(server, "/health"))[0] != 200:
                await asyncio.sleep(0.01)


async def test_nothing_is_logged_when_the_server_ends_amid_a_request(
    streams: KafkaStreams, caplog: pytest.LogCaptureFixture
) -> None:
    async with HealthServer(streams, 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health")
        while not server._serving:
            await asyncio.sleep(0)
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_port_is_refused_when_it_is_taken(streams: KafkaStreams) -> None:
    async with HealthServer(streams, 0) as server:
        with pytest.raises(ConfigError, match=f"127.0.0.1:{server.port}.*Choose another"):
            await HealthServer(streams, server.port).__aenter__()
