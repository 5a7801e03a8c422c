"""Applications on a real Kafka."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.counting import Counting


@pytest.fixture
async def app(kafka_broker: str, tmp_path: Path) -> AsyncIterator[Counting]:
    """An application that counts words, on the broker that tests share."""
    app = Counting(kafka_broker, tmp_path)
    yield app
    await app.close()
