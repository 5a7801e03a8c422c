"""Services that tests share: started when a test first asks, once per process. In which order tests run."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from streamlib.testing.kafka_broker import KafkaBroker
from tests import open_transports, side_by_side

pytest_plugins = ["pytester"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("streamlib", deadline=None)
settings.load_profile("streamlib")

open_transports.watch()


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[KafkaBroker]:
    """A real Apache Kafka, for tests that stop, freeze or kill it; they leave it running."""
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker(kafka_cluster: KafkaBroker) -> str:
    """``host:port`` of a real Apache Kafka; tests share it, so each makes topics and groups of its own names."""
    return kafka_cluster.address


@pytest.hookimpl(trylast=True)  # after they were shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=side_by_side.place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with side_by_side.turn(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    yield
    lost = open_transports.left_open()
    assert not lost, f"connections that outlive their loop: {lost}"
