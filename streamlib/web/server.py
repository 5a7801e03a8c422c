"""A worker's health and metrics over HTTP, for probes and scrapers on the same machine.

    GET /health    200 while the worker should go on running, else 503; JSON
    GET /ready     200 while it processes, else 503; JSON
    GET /metrics   Prometheus' text format

It listens on the loopback interface only and answers only requests that were made for it by name, so that a page in a
browser cannot read it by means of a name that leads here (DNS rebinding). It reads a head of limited size in limited
time, no body, and closes each connection after one answer.

Next: `prometheus`, which writes the metrics.
"""

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import NamedTuple, Self

from streamlib.errors import ConfigError
from streamlib.kafka_streams import KafkaStreams
from streamlib.web.prometheus import CONTENT_TYPE, exposition

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
NAMES = frozenset({"127.0.0.1", "localhost"})
HEAD_BYTES = 8 * 1024
ANSWER_SECONDS = 5.0
CONNECTIONS = 32


class Answer(NamedTuple):
    """What goes back."""

    status: HTTPStatus
    body: str
    content_type: str = "application/json"


class HealthServer:
    """Listens while it is entered.

    Args:
        streams: Whose health it tells.
        port: Where to listen; 0 for a free one.

    Attributes:
        port: Where it listens.

    Raises:
        ConfigError: On entering: the port is taken.
    """

    def __init__(self, streams: KafkaStreams, port: int) -> None:
        self.port = port
        self._streams = streams
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=HEAD_BYTES)
        except OSError as error:
            msg = f"cannot listen on {HOST}:{self.port} for health and metrics: {error}. Choose another port"
            raise ConfigError(msg) from error
        self.port = self._server.sockets[0].getsockname()[1]
        log.info("health and metrics are told on http://%s:%d", HOST, self.port)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection, and end it then: also one that is to end before it has been served at all."""
        serving = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        serving.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(_encoded(await self._answer(reader)))
                writer.write_eof()
                while await reader.read(HEAD_BYTES):  # a close with unread bytes could overtake the answer
                    pass

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        if len(self._serving) > CONNECTIONS:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {HEAD_BYTES} bytes of headers")
        request, *lines = head.decode("latin-1").split("\r\n")[:-2]
        parts = request.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return _refusal(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")
        method, target, _ = parts
        hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
        if len(hosts) != 1 or hosts[0].partition(":")[0] not in NAMES or not self._is_our_port(hosts[0]):
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, f"ask for http://{HOST}:{self.port}")
        if method != "GET":
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "GET only")
        return self._page(target.partition("?")[0])

    def _is_our_port(self, host: str) -> bool:
        return host.partition(":")[2] in {"", str(self.port)}

    def _page(self, path: str) -> Answer:
        if path == "/metrics":
            return Answer(HTTPStatus.OK, exposition(self._streams.metrics), CONTENT_TYPE)
        if path not in {"/health", "/ready"}:
            return _refusal(HTTPStatus.NOT_FOUND, "there are /health, /ready and /metrics")
        health = self._streams.health()
        well = health.alive if path == "/health" else health.ready
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(status, json.dumps(asdict(health)))


def _refusal(status: HTTPStatus, why: str) -> Answer:
    return Answer(status, json.dumps({"error": why}))


def _encoded(answer: Answer) -> bytes:
    body = answer.body.encode()
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
