import json

from tests.cli.running import Cli


def test_a_created_topic_is_listed_until_it_is_deleted(any_cli: Cli, name: str) -> None:
    answer = any_cli("topics", "create", f"{name}-a", f"{name}-b", "--partitions", "3")
    assert answer.out == f"created {name}-a, {name}-b with 3 partitions\n"
    listed = json.loads(any_cli("topics", "--json").out)
    assert [entry for entry in listed if entry["topic"].startswith(name)] == [
        {"topic": f"{name}-a", "partitions": 3},
        {"topic": f"{name}-b", "partitions": 3},
    ]
    assert any_cli("topics", "delete", f"{name}-a").out == f"deleted {name}-a\n"
    assert f"{name}-a" not in any_cli("topics").out
    assert [line.split() for line in any_cli("topics", "list").out.splitlines() if name in line] == [[f"{name}-b", "3"]]


def test_a_topic_keeps_the_settings_it_was_created_with(any_cli: Cli, name: str) -> None:
    any_cli("topics", "create", name, "--config", "cleanup.policy=compact,delete", "--config", "retention.ms=86400000")
    configs = any_cli.topic_configs(name)
    assert set(configs["cleanup.policy"].split(",")) == {"compact", "delete"}
    assert configs["retention.ms"] == "86400000"


def test_an_existing_topic_is_not_created_again(any_cli: Cli, name: str) -> None:
    any_cli("topics", "create", name)
    answer = any_cli("topics", "create", f"{name}-new", name, fails=1)
    assert answer.err == f"error: the topic {name} exists already, with 1 partitions; nothing was created\n"
    assert f"{name}-new" not in any_cli("topics").out


def test_a_missing_topic_is_not_deleted_and_the_nearest_is_named(any_cli: Cli, name: str) -> None:
    any_cli("topics", "create", f"{name}-orders")
    answer = any_cli("topics", "delete", f"{name}-order", fails=78)
    assert answer.err == f"error: there is no topic {name}-order; nothing was deleted. Did you mean {name}-orders?\n"


def test_a_long_name_is_not_cut_off_in_a_pipe(cli: Cli) -> None:
    long = "a-name-that-is-longer-than-a-terminal-is-wide-" * 3
    cli("topics", "create", long)
    assert long in cli("topics").out


def test_an_empty_broker_says_so(cli: Cli) -> None:
    assert cli("topics").out == "there are no topics\n"
    assert cli("groups").out == "there are no consumer groups\n"


def test_flags_without_a_subcommand_belong_to_the_list(cli: Cli) -> None:
    cli("topics", "create", "here")
    there = cli("topics", "--broker", f"local:{cli.folder / 'elsewhere'}")
    assert there.out == "there are no topics\n"
