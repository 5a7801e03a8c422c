"""A broker that cannot be reached is reported with its address, in bounded time."""

import asyncio
import socket
from pathlib import Path

import pytest

from streamlib.errors import BrokerUnavailableError
from streamlib.transport.local.transport import LocalTransport


async def test_start_fails_naming_the_directory_when_it_cannot_be_made(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    with pytest.raises(BrokerUnavailableError, match=str(blocked)):
        await LocalTransport(blocked / "broker").start()


@pytest.mark.kafka
async def test_start_fails_naming_the_address_when_the_port_is_closed() -> None:
    from streamlib.transport.kafka.transport import KafkaTransport

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BrokerUnavailableError, match=address):
            await asyncio.wait_for(KafkaTransport(address).start(), 30)
