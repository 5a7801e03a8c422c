"""`produce` and `consume` against a real Kafka; `test_produce_consume.py` has the details."""

import pytest

from streamlib.transport.partitioner import partition_for
from tests.cli.running import Cli

pytestmark = pytest.mark.kafka


def test_records_go_to_kafka_and_come_back(kafka_cli: Cli, name: str) -> None:
    orders = [{"id": f"c{number}", "at": 1_700_000_000_000 + number} for number in range(500)]
    flags = ["--key-field", "id", "--timestamp-field", "at"]
    assert "streamlib topics create" in kafka_cli.produce(name, orders, *flags, fails=78).err
    answer = kafka_cli.produce(name, orders, *flags, "--create-partitions", "3")
    assert answer.out == f"wrote 500 records to {name}\n"
    records = kafka_cli("consume", name).lines
    assert sorted((record["value"] for record in records), key=lambda value: value["at"]) == orders
    assert all(record["timestamp"] == record["value"]["at"] for record in records)
    assert all(record["partition"] == partition_for(record["key"].encode(), 3) for record in records)
    late = kafka_cli("consume", name, "--from", "1700000000490", "--values-only").lines
    assert sorted(value["at"] for value in late) == [order["at"] for order in orders[490:]]
    assert kafka_cli("consume", name, "--from", "end").out == ""


def test_an_envelope_keeps_headers_partition_and_tombstone(kafka_cli: Cli, name: str) -> None:
    envelope = {
        "key": "k",
        "value": None,
        "timestamp": 1_700_000_000_000,
        "partition": 1,
        "headers": [["h", "v"], ["n", None]],
    }
    kafka_cli.produce(name, [envelope], "--envelope", "--create-partitions", "2")
    (record,) = kafka_cli("consume", name).lines
    assert record == {"topic": name, "offset": 0, **envelope}


def test_a_broker_that_does_not_answer_is_one_message(cli: Cli) -> None:
    answer = cli("topics", "--broker", "kafka://127.0.0.1:9", fails=1)
    assert answer.err.startswith("error: ")
    assert "127.0.0.1:9" in answer.err
    assert len(answer.err.splitlines()) <= 3


def test_a_secret_is_never_shown(kafka_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLIB_SASL_PASSWORD", "hush-hush")
    flags = ["--security-protocol", "sasl_plaintext", "--sasl-mechanism", "plain", "--sasl-username", "me"]
    shown = kafka_cli("topics", "--debug", *flags, "--sasl-allow-insecure", fails=78)
    assert "hush-hush" not in shown.out + shown.err
    shown = kafka_cli("topics", "--debug", *flags, fails=78)
    assert "hush-hush" not in shown.out + shown.err
