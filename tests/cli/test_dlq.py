"""Dead letters from the command line: listed, shown, and replayed once."""

import json
from typing import Any

import pytest

from tests.cli.running import Cli

FIX = """
from dataclasses import replace

def mend(record):
    if record.value == b"drop":
        return None
    return replace(record, value=record.value.replace(b"x", b""))

def move(record):
    return replace(record, key=b"other")

def fail(record):
    if record.offset == 8:
        raise ValueError("no idea")
    return record

def wrong(record):
    return b"bytes"
"""


def letter(value: str, offset: int, *, topic: str | None = "orders", partition: int = 1) -> dict[str, Any]:
    errors = {
        "__streams.errors.exception": "ValueError",
        "__streams.errors.message": f"cannot read {value}",
        "__streams.errors.stacktrace": "Traceback ...",
        "__streams.errors.topic": topic,
        "__streams.errors.partition": str(partition),
        "__streams.errors.offset": str(offset),
        "__streamlib.errors.node": "parse",
    }
    return {
        "key": "k",
        "value": value,
        "timestamp": 1_000 + offset,
        "headers": [["trace", "1"], *map(list, errors.items())],
    }


@pytest.fixture
def dead(any_cli: Cli, name: str) -> Cli:
    """Three letters in ``NAME-dead``, from partition 1 of two of the topic ``NAME``."""
    any_cli("topics", "create", name, "--partitions", "2")
    letters = [letter(value, 7 + row, topic=name) for row, value in enumerate(["1x", "drop", "x2"])]
    any_cli.produce(f"{name}-dead", letters, "--envelope", "--value-format", "string", "--create-partitions", "1")
    (any_cli.folder / f"fixes_{name.replace('-', '_')}.py").write_text(FIX)
    return any_cli


def records(cli: Cli, topic: str) -> list[Any]:
    return cli("consume", topic, "--value-format", "string").lines


def test_letters_are_shown_with_what_went_wrong(dead: Cli, name: str) -> None:
    first, *others = dead("dlq", "show", f"{name}-dead").lines
    assert first == {
        "topic": f"{name}-dead",
        "partition": 0,
        "offset": 0,
        "timestamp": 1_007,
        "key": "k",
        "value": "1x",
        "headers": [["trace", "1"]],
        "error": {
            "exception": "ValueError",
            "message": "cannot read 1x",
            "topic": name,
            "partition": 1,
            "offset": 7,
            "node": "parse",
        },
    }
    assert [each["value"] for each in others] == ["drop", "x2"]
    [last] = dead("dlq", "show", f"{name}-dead", "--offset", "2", "--stacktrace").lines
    assert last["error"]["stacktrace"] == "Traceback ..."
    assert len(dead("dlq", "show", f"{name}-dead", "--limit", "2").lines) == 2


def test_topics_with_letters_are_listed_with_what_is_not_replayed(dead: Cli, name: str) -> None:
    found = json.loads(dead("dlq", "list", "--topic", f"{name}-dead", "--topic", name, "--json").out)
    assert found == [
        {
            "topic": f"{name}-dead",
            "records": 3,
            "waiting": 3,
            "last error": "ValueError: cannot read x2",
            "at": f"{name} 1 9",
        }
    ]
    assert f"{name}-dead" in dead("dlq", "list").out
    dead("dlq", "replay", f"{name}-dead", "--limit", "1")
    assert json.loads(dead("dlq", "list", "--topic", f"{name}-dead", "--json").out)[0]["waiting"] == 2


def test_letters_go_back_to_where_they_were_read_and_only_once(dead: Cli, name: str) -> None:
    assert dead("dlq", "replay", f"{name}-dead", "--limit", "2").out == f"replayed 2 records of {name}-dead\n"
    assert dead("dlq", "replay", f"{name}-dead").out == f"replayed 1 records of {name}-dead\n"
    assert dead("dlq", "replay", f"{name}-dead").out == f"replayed 0 records of {name}-dead\n"
    found = records(dead, name)
    assert [(each["value"], each["partition"], each["timestamp"]) for each in found] == [
        ("1x", 1, 1_007),
        ("drop", 1, 1_008),
        ("x2", 1, 1_009),
    ]
    assert found[0]["headers"] == [["trace", "1"]]


def test_a_function_mends_letters_or_leaves_them_out(dead: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dead.folder)
    fixes = f"fixes_{name.replace('-', '_')}"
    preview = dead("dlq", "replay", f"{name}-dead", "--fix", f"{fixes}:mend", "--dry-run").lines
    assert [(each["offset"], each["to"], each.get("value")) for each in preview] == [
        (0, name, "1"),
        (1, None, None),
        (2, name, "2"),
    ]
    assert records(dead, name) == []
    answer = dead("dlq", "replay", f"{name}-dead", "--fix", f"{fixes}:mend")
    assert answer.out == f"replayed 2 records of {name}-dead, left out 1\n"
    assert [each["value"] for each in records(dead, name)] == ["1", "2"]


def test_a_new_key_or_topic_chooses_the_partition(dead: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dead.folder)
    fixes = f"fixes_{name.replace('-', '_')}"
    dead("topics", "create", f"{name}-other", "--partitions", "5")
    dead("dlq", "replay", f"{name}-dead", "--to", f"{name}-other", "--group", f"{name}-a")
    dead("dlq", "replay", f"{name}-dead", "--fix", f"{fixes}:move", "--group", f"{name}-b")
    dead.produce(f"{name}-other", ["z"], "--value-format", "string", "--key-format", "string")
    assert {each["partition"] for each in records(dead, f"{name}-other") if each["key"] == "k"} == {_partition(b"k", 5)}
    assert {(each["key"], each["partition"]) for each in records(dead, name)} == {("other", _partition(b"other", 2))}


def _partition(key: bytes, count: int) -> int:
    from streamlib.transport.partitioner import partition_for

    return partition_for(key, count)


def test_a_function_that_raises_stops_the_replay_and_names_the_letter(
    dead: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dead.folder)
    fixes = f"fixes_{name.replace('-', '_')}"
    answer = dead("dlq", "replay", f"{name}-dead", "--fix", f"{fixes}:fail", fails=1)
    assert "the fix function raised ValueError('no idea')" in answer.err
    assert f"topic={name}-dead partition=0 offset=1" in answer.err
    assert "must give the record" in dead("dlq", "replay", f"{name}-dead", "--fix", f"{fixes}:wrong", fails=1).err
    assert "Give the name of a function" in dead("dlq", "replay", f"{name}-dead", "--fix", f"{fixes}:zz", fails=78).err


def test_a_letter_from_nowhere_needs_a_topic(any_cli: Cli, name: str) -> None:
    any_cli.produce(f"{name}-dead", [letter("1", 1, topic=None)], "--envelope", "--create-partitions", "1")
    answer = any_cli("dlq", "replay", f"{name}-dead", fails=78)
    assert "nobody knows where the record came from" in answer.err
    assert "--to" in answer.err


def test_there_may_be_no_letters(cli: Cli) -> None:
    cli.produce("plain", [1, 2], "--create-partitions", "1")
    assert cli("dlq", "list").out == "there are no dead letters\n"
