import json
from pathlib import Path

import pytest

from streamlib.cli.exits import code_of, reported, told
from streamlib.cli.output import OutputClosedError
from streamlib.errors import (
    AuthorizationError,
    BrokerLockedError,
    BrokerUnavailableError,
    ConfigError,
    DataLossError,
    DeliveryError,
    InternalTopicError,
    MissingTopicError,
    ProcessingError,
    StateDirLockedError,
    StreamlibError,
    TopologyError,
    TransportError,
)


def chained(error: StreamlibError, cause: Exception) -> StreamlibError:
    error.__cause__ = cause
    return error


def raised(text: str, path: Path | str) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        exec(compile(text, str(path), "exec"), {"json": json})
    assert caught.value.__traceback__ is not None
    return caught.value.with_traceback(caught.value.__traceback__.tb_next)  # without the line above


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 78),
        (TopologyError(["x"]), 78),
        (AuthorizationError("x"), 78),
        (DataLossError("x"), 78),
        (InternalTopicError("x"), 78),
        (MissingTopicError("x"), 78),
        (BrokerUnavailableError("x"), 1),
        (DeliveryError("x"), 1),
        (StateDirLockedError("x"), 1),
        (TransportError("x"), 1),
        (BrokerLockedError("x"), 1),
        (ProcessingError("x"), 1),
    ],
)
def test_only_what_trying_again_cannot_mend_is_a_configuration_error(error: StreamlibError, code: int) -> None:
    assert code_of(error) == code


def test_the_users_line_is_told_even_if_a_library_raised_there(tmp_path: Path) -> None:
    cause = raised("def f():\n    json.loads('{')\nf()", tmp_path / "app.py")
    told_lines = told(chained(ProcessingError("node=n failed"), cause)).splitlines()
    assert told_lines[0] == "error: node=n failed"
    assert told_lines[1].startswith("  caused by JSONDecodeError: Expecting property name")
    assert told_lines[2] == f"  at {tmp_path / 'app.py'}:2 in f"


def test_a_reason_that_the_message_has_is_not_repeated(tmp_path: Path) -> None:
    cause = raised("{}['k']", tmp_path / "app.py")
    assert "caused by" not in told(chained(ProcessingError("node=n failed: KeyError: 'k'"), cause))


def test_causes_in_our_own_libraries_are_left_to_debug() -> None:
    cause = raised("1 / 0", "/usr/lib/python3/site-packages/aiokafka/client.py")
    assert told(chained(MissingTopicError("no topic"), cause)) == "error: no topic\n"


def test_a_closed_pipe_is_quiet_and_a_defect_passes() -> None:
    with pytest.raises(BaseException) as caught, reported(debug=False):  # noqa: PT011
        raise OutputClosedError
    assert caught.value.exit_code == 0  # type: ignore[attr-defined]
    with pytest.raises(ExceptionGroup), reported(debug=False):
        raise ExceptionGroup("both", [ConfigError("x"), ZeroDivisionError()])
