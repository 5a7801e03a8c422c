"""Commands against the embedded broker, and against a real Kafka."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Cli


def closed(cli: Cli) -> Iterator[Cli]:
    yield cli
    cli.close()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on an embedded broker of this test's own."""
    yield from closed(Cli(f"local:{tmp_path / 'broker'}", tmp_path))


@pytest.fixture
def kafka_cli(kafka_broker: str, tmp_path: Path) -> Iterator[Cli]:
    """Commands on a real Kafka."""
    yield from closed(Cli(f"kafka://{kafka_broker}", tmp_path))


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def any_cli(request: pytest.FixtureRequest) -> Cli:
    """Commands on an embedded broker, and on a real Kafka."""
    found: Cli = request.getfixturevalue("cli" if request.param == "local" else "kafka_cli")
    return found


@pytest.fixture
def name() -> str:
    """The first part of topics and groups of this test alone, since tests share a Kafka."""
    return f"t{uuid.uuid4().hex[:12]}"
