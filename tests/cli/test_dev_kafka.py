import os
import signal
from pathlib import Path

import pytest

from tests.cli.running import Cli

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def descendants(pid: int) -> list[int]:
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [each for child in found for each in descendants(child)]


def test_a_development_broker_serves_until_it_is_told_to_stop(cli: Cli) -> None:
    broker = cli.start("dev", "kafka", "--port", "0", "--data", "kept")
    assert broker.stdout is not None
    address = broker.stdout.readline().strip()
    assert address.startswith("kafka://127.0.0.1:")
    java = descendants(broker.pid)
    assert java
    cli("topics", "create", "orders", "--broker", address)
    assert "orders" in cli("topics", "--broker", address).out
    broker.send_signal(signal.SIGTERM)
    out, err = broker.communicate(timeout=30)
    assert (broker.returncode, out, err) == (0, "", "")
    assert [pid for pid in java if os.path.exists(f"/proc/{pid}")] == []
    assert (cli.folder / "kept").is_dir()


def test_a_topic_keeps_three_copies_when_three_brokers_run(cli: Cli) -> None:
    brokers = cli.start("dev", "kafka", "--port", "0", "--brokers", "3")
    assert brokers.stdout is not None
    address = brokers.stdout.readline().strip()
    assert address.count("127.0.0.1:") == 3
    cli("topics", "create", "orders", "--replication-factor", "3", "--partitions", "6", "--broker", address)
    cli.produce("orders", [{"n": 1}], "--broker", address)
    assert '"value":{"n":1}' in cli("consume", "orders", "--broker", address).out
    brokers.send_signal(signal.SIGTERM)
    brokers.communicate(timeout=60)
    assert brokers.returncode == 0
