"""How a command ends: exit codes, and errors as one message on stderr.

    0    done
    1    it failed at run time
    2    the command line is wrong (typer says so itself)
    78   the configuration, a topic, a permission or the topology is not as it must be, or records are gone: trying
         again is no use before something was mended (sysexits' EX_CONFIG)
    130  interrupted (Ctrl-C)
    143  terminated at once by a second SIGTERM

Next: the modules named like commands.
"""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from streamlib.cli.output import OutputClosedError
from streamlib.errors import StreamlibError, action_for

FAILURE = 1
USAGE = 2
CONFIG = 78
SIGNALLED = 128

OWN_LIBRARIES = frozenset({"aiokafka", "rocksdict", "uvloop"})


def code_of(error: StreamlibError) -> int:
    """The exit code for an error."""
    return CONFIG if action_for(error) == "refuse" else FAILURE


@contextmanager
def reported(*, debug: bool) -> Iterator[None]:
    """Run a command: streamlib's errors become one message and an exit code, a closed pipe is quiet.

    Args:
        debug: Show tracebacks too.

    Raises:
        typer.Exit: With the code. Anything that is not a `StreamlibError` is a defect and passes with its traceback.
    """
    try:
        yield
    except (StreamlibError, ExceptionGroup) as raised:
        ours, others = _sorted(raised)
        if others:
            raise
        if debug:
            traceback.print_exception(raised)
        sys.stderr.write("".join(told(error) for error in ours))
        raise typer.Exit(max(code_of(error) for error in ours)) from None
    except OutputClosedError:
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(SIGNALLED + signal.SIGINT) from None


def told(error: StreamlibError) -> str:
    """The message of an error; and when the user's code raised its cause, where."""
    text = f"error: {error}\n"
    cause = error.__cause__
    if cause is None:
        return text
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if _is_users(frame.filename)]
    if not frames:
        return text
    if str(cause) not in str(error):
        text += f"  caused by {type(cause).__name__}: {cause}\n"
    return f"{text}  at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}\n"


def _is_users(filename: str) -> bool:
    """Whether code is neither Python's own, nor ours, nor that of a library which only we call."""
    path = Path(filename)
    if filename.startswith("<") or path.is_relative_to(Path(__file__).parents[1]):
        return False
    if "site-packages" in path.parts:
        return OWN_LIBRARIES.isdisjoint(path.parts)
    return not path.is_relative_to(Path(os.__file__).parent)


def _sorted(error: Exception) -> tuple[list[StreamlibError], list[Exception]]:
    """Streamlib's errors and all others, out of a task group's bundle."""
    if not isinstance(error, ExceptionGroup):
        return ([error], []) if isinstance(error, StreamlibError) else ([], [error])
    parts = [_sorted(inner) for inner in error.exceptions]
    return [each for ours, _ in parts for each in ours], [each for _, others in parts for each in others]
