"""Resetting an application on a real broker; `tests/unit/cli/test_reset_plan.py` has the cases of the plan itself."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Cli


@pytest.fixture
def stopped(any_cli: Cli, name: str) -> Cli:
    """The application has run: 10 records in its topic, 6 committed, internal topics and local state are there."""
    lines = [{"key": "k", "value": f"w{number}", "timestamp": 1000 * number, "partition": 0} for number in range(10)]
    any_cli.produce(f"{name}-in", lines, "--envelope", "--value-format", "string", "--create-partitions", "2")
    internal = [f"{name}-word-counts-changelog", f"{name}-word-counts-repartition"]
    any_cli("topics", "create", *internal, f"{name}-out")
    any_cli.commit(name, {(f"{name}-in", 0): 6, (internal[1], 0): 0})
    (any_cli.folder / "state" / name / "1_0").mkdir(parents=True)
    any_cli.write_app(APPLICATION=name, SENTENCES=f"{name}-in", COUNTS=f"{name}-out")
    return any_cli


def topics(cli: Cli, name: str) -> set[str]:
    found = {entry["topic"] for entry in json.loads(cli("topics", "--json").out)}
    return {topic.removeprefix(name) for topic in found if topic.startswith(name)}


def test_a_reset_application_starts_at_the_beginning_without_its_topics_and_state(stopped: Cli, name: str) -> None:
    answer = stopped.run("reset", "app:topology", "--local-state", "--yes")
    assert answer.out.splitlines()[-1] == f"reset {name}: 2 offsets, 2 topics, 1 folders"
    assert stopped.committed(name) == {(f"{name}-in", 0): 0, (f"{name}-in", 1): 0}
    assert topics(stopped, name) == {"-in", "-out"}
    assert not (stopped.folder / "state" / name).exists()
    assert stopped.run("reset", "app:topology", "--local-state").out.splitlines()[-1] == "nothing to do"


def test_a_dry_run_shows_the_same_and_changes_nothing(stopped: Cli, name: str) -> None:
    flags = ["--application-id", name, "--input-topics", f"{name}-in", "--local-state", "--to-offset", "2"]
    dry = stopped("reset", *flags, "--dry-run").out.splitlines()
    assert dry[-1] == "nothing was changed (--dry-run)"
    assert f"  {name}-word-counts-changelog" in dry
    assert f"  {stopped.folder / 'state' / name}" in dry
    assert [f"{name}-in", "0", "6", "2"] in [line.split() for line in dry]
    assert [f"{name}-in", "1", "-", "0"] in [line.split() for line in dry]
    assert stopped.committed(name)[f"{name}-in", 0] == 6
    assert topics(stopped, name) == {"-in", "-out", "-word-counts-changelog", "-word-counts-repartition"}
    assert (stopped.folder / "state" / name).exists()
    assert stopped("reset", *flags, "--yes").out.splitlines()[:-1] == dry[:-1]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], 0),
        (["--to-latest"], 10),
        (["--to-offset", "4"], 4),
        (["--shift-by", "-2"], 4),
        (["--to-datetime", "1970-01-01T00:00:07Z"], 7),
        (["--by-duration", "P1D"], 10),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else None,
)
def test_the_group_goes_on_where_it_was_told(cli: Cli, flags: list[str], wanted: int) -> None:
    lines = [{"value": number, "timestamp": 1000 * number} for number in range(10)]
    cli.produce("in", lines, "--envelope", "--create-partitions", "1")
    cli.commit("app", {("in", 0): 6})
    cli("reset", "--application-id", "app", "--input-topics", "in", "--yes", *flags)
    assert cli.committed("app") == {("in", 0): wanted}


def test_nothing_happens_when_the_question_is_answered_with_no(cli: Cli) -> None:
    cli.produce("in", [1, 2], "--create-partitions", "1")
    cli.commit("app", {("in", 0): 2})
    flags = ["--application-id", "app", "--input-topics", "in"]
    assert "Do this? [y/N]" in cli("reset", *flags, typed="n\n", fails=1).out
    assert cli.committed("app") == {("in", 0): 2}
    cli("reset", *flags, typed="y\n")
    assert cli.committed("app") == {("in", 0): 0}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name the application"),
        (["--application-id", "app"], "--input-topics a,b"),
        (["--application-id", "app", "--input-topics", "in", "--to-latest", "--to-offset", "1"], "give only one of"),
        (["--application-id", "app", "--input-topics", "in", "--to-datetime", "soon"], "is no moment"),
        (["--application-id", "app", "--input-topics", "in", "--internal-topics", "other"], "they begin with its id"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(cli: Cli, flags: list[str], message: str) -> None:
    assert message in cli("reset", *flags, fails=2).err


def test_a_missing_input_topic_changes_nothing(cli: Cli) -> None:
    answer = cli("reset", "--application-id", "app", "--input-topics", "in", "--yes", fails=78)
    assert "there is no topic in; nothing was changed" in answer.err


@pytest.mark.slow
def test_an_application_that_runs_is_not_reset(any_cli: Cli, name: str, tmp_path: Path) -> None:
    any_cli.produce(f"{name}-in", ["a b"], "--value-format", "string", "--create-partitions", "1")
    any_cli("topics", "create", f"{name}-out")
    any_cli.write_app(APPLICATION=name, SENTENCES=f"{name}-in", COUNTS=f"{name}-out")
    worker = any_cli.start("worker", "app:topology", "--commit-interval", "50ms")
    any_cli.wait_for_records(f"{name}-out", 2)
    state = any_cli("groups").out
    assert [name, "Stable", "1"] in [line.split()[:3] for line in state.splitlines()]
    answer = any_cli("reset", "--application-id", name, "--input-topics", f"{name}-in", "--yes", fails=1)
    assert f"the group {name} has 1 members" in answer.err
    assert "Stop every worker, then reset" in answer.err
    worker.terminate()
    assert worker.wait(20) == 0
    any_cli("reset", "--application-id", name, "--input-topics", f"{name}-in", "--yes")
