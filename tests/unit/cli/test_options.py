import re
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from streamlib.cli.main import app as streamlib_app
from streamlib.cli.options import argument, command, option
from streamlib.errors import ConfigError, TransportError


@dataclass(frozen=True)
class Options:
    name: Annotated[str, option("--name", help="A name.")] = "nobody"
    count: Annotated[int, option("--how-often", scope="greet", help="A number.")] = 1
    tags: Annotated[list[str] | None, option("--tag", help="Some.")] = None


seen: list[tuple[str, Options]] = []


@command
async def greet(word: Annotated[str, argument("WORD", help="A word.")], options: Options) -> None:
    """Greet."""
    seen.append((word, options))
    if word == "config":
        raise ConfigError("cannot work")
    if word == "group":
        raise ExceptionGroup("both", [TransportError("one"), ConfigError("two")])
    if word == "defect":
        raise ZeroDivisionError
    if word == "interrupt":
        raise KeyboardInterrupt


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(greet)


def run(*arguments: str, **settings: Any) -> Any:
    seen.clear()
    return CliRunner().invoke(app, arguments, **settings)


def test_options_arrive_as_one_object() -> None:
    assert run("hello", "--how-often", "3", "--name", "you", "--tag", "a", "--tag", "b").exit_code == 0
    assert seen == [("hello", Options("you", 3, ["a", "b"]))]


def test_options_come_from_the_environment_under_scoped_names() -> None:
    assert run("hello", env={"STREAMLIB_NAME": "you", "STREAMLIB_GREET_HOW_OFTEN": "2"}).exit_code == 0
    assert seen == [("hello", Options("you", 2))]


def test_flags_win_over_the_environment() -> None:
    run("hello", "--name", "flag", env={"STREAMLIB_NAME": "variable"})
    assert seen[0][1].name == "flag"


def test_a_configuration_error_is_one_line_and_78() -> None:
    result = run("config")
    assert result.exit_code == 78
    assert result.stderr == "error: cannot work\n"


def test_errors_of_a_task_group_are_told_one_by_one() -> None:
    result = run("group")
    assert result.exit_code == 78
    assert result.stderr == "error: one\nerror: two\n"


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run("config", "--debug").stderr


def test_a_defect_is_not_hidden() -> None:
    assert isinstance(run("defect").exception, ZeroDivisionError)


def test_an_interrupt_ends_with_130() -> None:
    assert run("interrupt").exit_code == 130


def commands(group: Any, path: tuple[str, ...] = ()) -> Any:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))
        else:
            yield (*path, name), each


def test_every_flag_has_an_environment_variable_that_means_one_thing() -> None:
    flags: dict[str, set[str]] = {}
    missing = []
    for path, each in commands(typer.main.get_command(streamlib_app)):
        for parameter in each.params:
            if parameter.param_type_name == "option" and parameter.name not in ("help", "_version"):
                if not re.fullmatch(r"STREAMLIB_[A-Z_]+", parameter.envvar or ""):
                    missing.append((path, parameter.name))
                flags.setdefault(parameter.envvar, set()).add(str(parameter.help))
    assert missing == []
    assert len(flags) > 40
    shared = {name for name, meanings in flags.items() if len(meanings) > 1}
    assert shared <= {"STREAMLIB_APPLICATION_ID", "STREAMLIB_STATE_DIR"}


@pytest.mark.parametrize("path", [path for path, _ in commands(typer.main.get_command(streamlib_app))], ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(streamlib_app, [*path, "--help"])
    assert result.exit_code == 0
    assert f"Usage: streamlib {' '.join(path)} [OPTIONS]" in result.stdout.replace("Usage: root", "Usage: streamlib")
