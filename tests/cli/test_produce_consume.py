import signal
import subprocess

import pytest

from streamlib.transport.partitioner import partition_for
from tests.cli.running import Cli


def test_what_was_produced_is_consumed(cli: Cli) -> None:
    orders = [{"id": f"c{number}", "at": 1000 + number} for number in range(20)]
    answer = cli.produce("orders", orders, "--key-field", "id", "--timestamp-field", "at", "--create-partitions", "3")
    assert answer.out == "wrote 20 records to orders\n"
    records = cli("consume", "orders").lines
    assert sorted(record["value"]["at"] for record in records) == list(range(1000, 1020))
    for record in records:
        key = record["key"]
        assert record == {
            "topic": "orders",
            "partition": partition_for(key.encode(), 3),
            "offset": record["offset"],
            "timestamp": record["value"]["at"],
            "key": key,
            "value": {"id": key, "at": record["timestamp"]},
            "headers": [],
        }


def test_what_is_consumed_can_be_produced_again(cli: Cli) -> None:
    envelopes = [
        {"key": "a", "value": {"n": 1}, "timestamp": 5, "partition": 1, "headers": [["h", "v"], ["h", None]]},
        {"key": "a", "value": None, "timestamp": 6, "partition": 1, "headers": [["b", {"base64": "/w=="}]]},
        {"key": None, "value": [], "timestamp": 7, "partition": 0, "headers": []},
    ]
    cli.produce("first", envelopes, "--envelope", "--create-partitions", "2")
    records = cli("consume", "first").lines
    assert sorted(records, key=lambda record: record["timestamp"]) == [
        {"topic": "first", "offset": offset, **envelope} for offset, envelope in zip([0, 1, 0], envelopes, strict=True)
    ]
    cli.produce("second", records, "--envelope", "--create-partitions", "2")
    assert [{**record, "topic": "first"} for record in cli("consume", "second").lines] == records


def test_lines_of_text_have_keys_before_the_separator(cli: Cli) -> None:
    cli.produce("t", ["7:two words"], "--key-separator", ":", "--key-format", "int64", "--value-format", "string",
                "--create-partitions", "1")  # fmt: skip
    (record,) = cli("consume", "t", "--key-format", "int64", "--value-format", "string").lines
    assert (record["key"], record["value"]) == (7, "two words")
    assert cli("consume", "t", "--values-only", "--value-format", "bytes").out == '"dHdvIHdvcmRz"\n'


def test_a_windowed_key_is_shown_with_its_window_and_goes_where_its_key_goes(cli: Cli) -> None:
    keys = [{"key": f"k{number}", "start": 60_000 * number, "end": 60_000 * number + 60_000} for number in range(8)]
    lines = [{"key": key, "value": 1} for key in keys]
    cli.produce("t", lines, "--envelope", "--key-format", "windowed-string:1m", "--create-partitions", "4")
    records = cli("consume", "t", "--key-format", "windowed-string:60000").lines
    assert sorted((record["key"] for record in records), key=lambda key: key["start"]) == keys
    assert all(record["partition"] == partition_for(record["key"]["key"].encode(), 4) for record in records)


def test_consuming_begins_where_it_is_told(cli: Cli) -> None:
    lines = [{"key": "k", "value": number, "timestamp": 1000 * number} for number in range(10)]
    cli.produce("t", lines, "--envelope", "--create-partitions", "1")
    assert cli("consume", "t", "--from", "end").lines == []
    assert cli("consume", "t", "--from", "7000", "--values-only").lines == [7, 8, 9]
    assert cli("consume", "t", "--from", "1970-01-01T00:00:07.500Z", "--values-only").lines == [8, 9]
    assert cli("consume", "t", "--max-records", "3", "--values-only").lines == [0, 1, 2]
    assert "is no moment" in cli("consume", "t", "--from", "start", fails=2).err


def test_only_the_partitions_asked_for_are_consumed(cli: Cli) -> None:
    lines = [{"value": number, "partition": number % 3} for number in range(6)]
    cli.produce("t", lines, "--envelope", "--create-partitions", "3")
    assert cli("consume", "t", "--partition", "1", "--values-only").lines == [1, 4]
    assert "has the partitions 0 to 2" in cli("consume", "t", "--partition", "3", fails=2).err


def test_a_record_of_another_format_is_named_and_those_before_it_are_printed(cli: Cli) -> None:
    cli.produce("t", ["1", "x y"], "--value-format", "string", "--create-partitions", "1")
    answer = cli("consume", "t", "--values-only", fails=1)
    assert answer.lines == [1]
    assert "the value is not json" in answer.err
    assert "topic=t partition=0 offset=1. Choose another --value-format" in answer.err


def test_records_before_a_bad_line_are_written(cli: Cli) -> None:
    answer = cli.produce("t", ["1", "2", "{", "4"], "--create-partitions", "1", fails=1)
    assert answer.out == "wrote 2 records to t\n"
    assert answer.err.startswith("error: line 3: ")
    assert "The 2 records before it were written" in answer.err
    assert cli("consume", "t", "--values-only").lines == [1, 2]


def test_a_partition_that_does_not_exist_is_refused(cli: Cli) -> None:
    answer = cli.produce("t", [{"value": 1, "partition": 2}], "--envelope", "--create-partitions", "2", fails=1)
    assert "line 1: there is no partition 2: t has 2" in answer.err


def test_a_missing_topic_is_an_error_with_the_mend(cli: Cli) -> None:
    assert "streamlib topics create absent" in cli.produce("absent", ["1"], fails=78).err
    assert (
        cli("consume", "absent", fails=78).err
        == "error: there is no topic absent. See the others with: streamlib topics\n"
    )


def test_a_missing_file_is_a_usage_error(cli: Cli) -> None:
    assert "does not exist" in cli("produce", "t", "--file", "absent.jsonl", fails=2).err


def test_an_address_of_no_known_form_is_a_configuration_error(cli: Cli) -> None:
    assert "write kafka://host:9092 or local:DIRECTORY" in cli("consume", "t", "--broker", "host:9092", fails=78).err


@pytest.mark.slow
def test_stdin_is_written_as_it_comes_and_followed_by_another_process(cli: Cli) -> None:
    cli("topics", "create", "t")
    follower = cli.start("consume", "t", "--follow", "--values-only")
    writer = cli.start("produce", "t")
    assert writer.stdin is not None
    assert follower.stdout is not None
    for number in (1, 2):
        writer.stdin.write(f"{number}\n")
        writer.stdin.flush()
        assert follower.stdout.readline() == f"{number}\n"
    out, err = writer.communicate("3", timeout=10)
    assert (writer.returncode, out, err) == (0, "wrote 3 records to t\n", "")
    assert follower.stdout.readline() == "3\n"
    follower.send_signal(signal.SIGINT)
    assert follower.communicate(timeout=10) == ("", "")
    assert follower.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_reader_that_goes_away_is_no_error(cli: Cli, follow: list[str]) -> None:
    cli.produce("t", [{"number": number, "padding": "x" * 1000} for number in range(5000)], "--create-partitions", "1")
    consumer = cli.start("consume", "t", *follow)
    assert consumer.stdout is not None
    assert consumer.stdout.readline().startswith('{"topic":"t"')
    consumer.stdout.close()
    assert consumer.stderr is not None
    assert consumer.stderr.read() == ""
    assert consumer.wait(10) == 0


@pytest.mark.slow
def test_a_follower_ends_when_its_reader_goes_though_nothing_is_written(cli: Cli) -> None:
    cli.produce("t", [1], "--create-partitions", "1")
    consumer = cli.start("consume", "t", "--follow")
    assert consumer.stdout is not None
    assert consumer.stdout.readline()
    consumer.stdout.close()
    assert consumer.wait(10) == 0


@pytest.mark.slow
def test_an_interrupted_producer_says_what_it_wrote(cli: Cli) -> None:
    cli("topics", "create", "t")
    writer = cli.start("produce", "t", stdout=subprocess.PIPE)
    reader = cli.start("consume", "t", "--follow", "--values-only")
    assert writer.stdin is not None
    assert reader.stdout is not None
    writer.stdin.write("1\n")
    writer.stdin.flush()
    assert reader.stdout.readline() == "1\n"
    writer.send_signal(signal.SIGINT)
    assert writer.communicate(timeout=10)[0] == "wrote 1 records to t\n"
    assert writer.returncode == 130
