"""The proxy: one listening port, one broker behind it, rules for what passes between, and a log of it.

It puts its own address in the place of the broker's, so clients that begin with it stay with it. For one broker only.
"""

import asyncio
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from streamlib.record import TopicPartition
from streamlib.testing.kafka_broker import HOST, free_port
from tests.proxy.frames import (
    CORRELATION,
    Api,
    Frame,
    Kind,
    addresses_replaced,
    correlation_of,
    fetched_partitions,
    request_frame,
    without_records,
)
from tests.proxy.rules import Action, Rule

LENGTH = struct.Struct(">i")
WITHOUT_RECORDS_SECONDS = 0.05  # a broker with nothing to tell waits, too
GONE = (ConnectionError, asyncio.IncompleteReadError, OSError)


class Connection:
    """One client's connection, and the one to the broker that was opened for it."""

    def __init__(self, proxy: "Proxy", number: int, client: Any, broker: Any) -> None:
        self.number = number
        self._proxy = proxy
        self._readers = {Kind.REQUEST: client[0], Kind.ANSWER: broker[0]}
        self._writers: dict[Kind, asyncio.StreamWriter] = {Kind.REQUEST: broker[1], Kind.ANSWER: client[1]}
        self._pending: dict[int, Frame] = {}
        self._silent = False
        self._half_closed: set[Kind] = set()

    async def serve(self) -> None:
        """Pass frames on until either side ends the connection."""
        pumps = [asyncio.create_task(self._pump(kind)) for kind in Kind]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            for pump in pumps:
                pump.cancel()
            ended = await asyncio.gather(*pumps, return_exceptions=True)
            self._proxy.defects += [error for error in ended if isinstance(error, Exception)]
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers.values()), return_exceptions=True)

    def close(self) -> None:
        """End both halves, both ways."""
        for writer in self._writers.values():
            writer.close()

    def silence(self) -> None:
        """Pass nothing on any more; both sides still see a connection."""
        self._silent = True

    def half_close(self, kind: Kind) -> None:
        """Whoever gets frames of this kind sees the end of the stream; nobody else is told."""
        if kind not in self._half_closed:
            self._half_closed.add(kind)
            with suppress(*GONE):
                self._writers[kind].write_eof()

    async def _pump(self, kind: Kind) -> None:
        with suppress(*GONE):
            while True:
                reader = self._readers[kind]
                data = await reader.readexactly(LENGTH.unpack(await reader.readexactly(LENGTH.size))[0])
                frame = self._frame(kind, data)
                self._proxy.log.append(replace(frame, data=b""))
                if await self._apply(frame):
                    return

    def _frame(self, kind: Kind, data: bytes) -> Frame:
        now = asyncio.get_running_loop().time()
        if kind is Kind.REQUEST:
            frame = request_frame(data, self.number, now)
            self._pending[frame.correlation] = frame
            return frame
        asked = self._pending.pop(correlation_of(data))
        answer = replace(asked, kind=kind, at=now, data=data)
        return replace(answer, data=addresses_replaced(answer, self._proxy.upstream, self._proxy.listening))

    async def _apply(self, frame: Frame) -> bool:
        """Do with a frame what the first rule for it says; whether the connection is to end."""
        rule = next((rule for rule in self._proxy.rules if rule.concerns(frame)), None)
        if rule is None:
            await self._pass_on(frame)
            return False
        rule.hits += 1
        ends = False
        match rule.action:
            case Action.DELAY:
                await asyncio.sleep(rule.seconds)
                await self._pass_on(frame)
            case Action.EDIT:
                assert rule.edit is not None
                await asyncio.sleep(rule.seconds)
                await self._pass_on(replace(frame, data=rule.edit(frame)))
            case Action.HOLD | Action.HOLD_AND_CLOSE:
                rule.kept.append(frame)
                ends = rule.action is Action.HOLD_AND_CLOSE
            case Action.REPEAT:
                rule.kept.append(frame)
                await self._pass_on(frame)
            case Action.HALF_CLOSE:
                self.half_close(frame.kind)
            case Action.SILENCE:
                self.silence()
            case Action.CLOSE:
                ends = True
            case Action.DROP:
                pass
        rule.hit.set()
        return ends

    async def _pass_on(self, frame: Frame) -> None:
        if self._silent or frame.kind in self._half_closed:
            return
        writer = self._writers[frame.kind]
        writer.write(LENGTH.pack(len(frame.data)) + frame.data)
        await writer.drain()


class Proxy:
    """Listens while it is entered.

    Args:
        broker: ``host:port`` of the broker.

    Attributes:
        rules: In force, the first one that concerns a frame decides.
        log: Every frame that came, without its data; also those that were not passed on.
        defects: What the proxy itself stumbled over.
        upstream, listening: The broker's address, and the proxy's.
    """

    def __init__(self, broker: str) -> None:
        host, _, port = broker.partition(":")
        self.upstream = (host, int(port))
        self.listening = (HOST, free_port())
        self.rules: list[Rule] = []
        self.log: list[Frame] = []
        self.defects: list[Exception] = []
        self._connections: dict[int, Connection] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._opened = 0

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"{self.listening[0]}:{self.listening[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self.listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        assert self.defects == []

    def add(self, api: Api, kind: Kind, action: Action, **settings: Any) -> Rule:
        """Put a rule in force; see `Rule` for its settings."""
        rule = Rule(api, kind, action, delivery=self._deliver, **settings)
        self.rules.append(rule)
        return rule

    def hide_records(self, *tps: TopicPartition, **settings: Any) -> Rule:
        """Take the records of some partitions out of answers to Fetch: they are told of, and do not come."""
        hidden: Collection[TopicPartition] = set(tps)
        return self.add(
            Api.FETCH,
            Kind.ANSWER,
            Action.EDIT,
            where=lambda frame: bool(fetched_partitions(frame) & set(hidden)),
            edit=lambda frame: without_records(frame, hidden),
            seconds=WITHOUT_RECORDS_SECONDS,
            **settings,
        )

    def seen(self, api: Api, kind: Kind = Kind.REQUEST) -> list[Frame]:
        """Frames of one kind, in order."""
        return [frame for frame in self.log if frame.api == api and frame.kind is kind]

    def each(self, act: Callable[[Connection], None]) -> int:
        """Do something to all connections that are open now; how many there were."""
        for connection in self._connections.values():
            act(connection)
        return len(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._opened += 1
        serving = asyncio.get_running_loop().create_task(self._serve(self._opened, (reader, writer)))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        serving.add_done_callback(lambda _: writer.close())  # also if it never began

    async def _serve(self, number: int, client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        try:
            broker = await asyncio.open_connection(*self.upstream)
        except OSError:
            return  # no broker: the client sees its connection end
        try:
            self._connections[number] = Connection(self, number, client, broker)
            await self._connections[number].serve()
        except OSError:
            pass
        finally:
            del self._connections[number]

    async def _deliver(self, frame: Frame) -> bytes:
        reader, writer = await asyncio.open_connection(*self.upstream)
        try:
            writer.write(LENGTH.pack(len(frame.data)) + frame.data)
            (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            return (await reader.readexactly(size))[CORRELATION.size :]
        finally:
            writer.close()
            await writer.wait_closed()
