import json

import pytest

from tests.cli.running import Cli


@pytest.fixture
def behind(any_cli: Cli, name: str) -> Cli:
    """A topic of two partitions with 5 and 2 records; its group has 3 and 2 of them behind it."""
    lines = [{"value": number, "partition": int(number >= 5)} for number in range(7)]
    any_cli.produce(name, lines, "--envelope", "--create-partitions", "2")
    any_cli.commit(f"{name}-group", {(name, 0): 3, (name, 1): 2})
    return any_cli


def test_lag_is_what_lies_between_the_committed_offset_and_the_end(behind: Cli, name: str) -> None:
    assert json.loads(behind("lag", f"{name}-group", "--json").out) == {
        "group": f"{name}-group",
        "lag": 2,
        "partitions": [
            {"topic": name, "partition": 0, "committed": 3, "end": 5, "lag": 2},
            {"topic": name, "partition": 1, "committed": 2, "end": 2, "lag": 0},
        ],
    }
    rows = [line.split() for line in behind("lag", f"{name}-group").out.splitlines()]
    assert [name, "0", "3", "5", "2"] in rows
    assert rows[-1] == ["total", "2"]


def test_a_group_without_members_is_listed_as_empty(behind: Cli, name: str) -> None:
    rows = [line.split() for line in behind("groups").out.splitlines()]
    assert [f"{name}-group", "Empty", "0"] in rows
    listed = json.loads(behind("groups", "--json").out)
    assert {"group": f"{name}-group", "state": "Empty", "members": {}} in listed


def test_lag_of_an_unknown_group_names_the_nearest(behind: Cli, name: str) -> None:
    answer = behind("lag", f"{name}-grop", fails=1)
    assert "There is no such group." in answer.err
    assert f"Did you mean {name}-group?" in answer.err


def test_a_deleted_topic_is_left_out_of_the_lag(cli: Cli) -> None:
    cli.produce("kept", [1, 2], "--create-partitions", "1")
    cli.produce("gone", [1, 2], "--create-partitions", "1")
    cli.commit("group", {("kept", 0): 1, ("gone", 0): 1})
    cli("topics", "delete", "gone")
    assert cli.committed("group") == {("kept", 0): 1}
