"""Commands against the embedded broker, and against a real Kafka."""

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
