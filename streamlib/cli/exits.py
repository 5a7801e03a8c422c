"""How a command ends: exit codes, and errors as one message on stderr.

    0    done
    1    it failed at run time
    2    the command line is wrong (typer says so itself)
    78   the configuration or the topology is wrong: trying again is no use (sysexits' EX_CONFIG)
    130  interrupted (Ctrl-C)
    143  terminated at once by a second SIGTERM

Next: the modules named like commands.
"""

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from streamlib.cli.output import OutputClosedError
from streamlib.errors import ConfigError, StreamlibError, TopologyError

FAILURE = 1
USAGE = 2
CONFIG = 78
SIGNALLED = 128


def code_of(error: StreamlibError) -> int:
    """The exit code for an error."""
    return CONFIG if isinstance(error, ConfigError | TopologyError) else FAILURE


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
    """The message of an error, and where other code, mostly the user's, raised its cause."""
    text = f"error: {error}\n"
    cause = error.__cause__
    if cause is None or isinstance(cause, StreamlibError):
        return text
    if str(cause) not in str(error):
        text += f"  caused by {type(cause).__name__}: {cause}\n"
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not frame.filename.startswith("<frozen")]
    return text + "".join(f"  at {frame.filename}:{frame.lineno} in {frame.name}\n" for frame in frames[-1:])


def _sorted(error: Exception) -> tuple[list[StreamlibError], list[Exception]]:
    """Streamlib's errors and all others, out of a task group's bundle."""
    if not isinstance(error, ExceptionGroup):
        return ([error], []) if isinstance(error, StreamlibError) else ([], [error])
    parts = [_sorted(inner) for inner in error.exceptions]
    return [each for ours, _ in parts for each in ours], [each for _, others in parts for each in others]
