"""Points at which a worker can be made to die, so that tests see what a crash right there leaves behind.

``STREAMLIB_FAILPOINT=before-end:3`` ends the process, as SIGKILL would, when it comes to ``before-end`` for the third
time. Without the variable `reached` does nothing. Next: `commit`, which has most of the points.
"""

import os
from collections.abc import Callable

from streamlib.errors import ConfigError

VARIABLE = "STREAMLIB_FAILPOINT"
EXIT_CODE = 137  # what a shell shows for a process that SIGKILL has ended

POINTS = (
    "after-send",  # a commit: everything is appended to the producer, nothing is waited for yet
    "after-acks",  # the broker has all records
    "before-offsets",  # the input offsets are to be sent
    "after-offsets",  # they are with the broker: in the transaction, or committed
    "before-end",  # the transaction is to be committed
    "after-end",  # it is; the state is not applied
    "before-apply",  # the rows of a commit are to be applied to the engines
    "mid-apply",  # one chunk of a task's rows is in its engine
    "after-apply",  # all of them are
    "mid-restore",  # part of a changelog has been read
    "in-revoked",  # the group's callback: tasks may be given away
    "in-assigned",  # the group's callback: tasks are given
    "after-assigned",  # the loop has made the tasks that it was given
    "during-close",  # the last commit is done; tasks are being closed
)
"""Their names, in the order of a worker's life."""


def armed(setting: str | None) -> Callable[[str], None]:
    """What to call with the name of each point.

    Args:
        setting: ``name:nth``, or ``name`` for the first time; None or empty for never.

    Raises:
        ConfigError: An unknown name, or an ``nth`` that is no number from 1 on.
    """
    if not setting:
        return _passed
    name, _, nth = setting.partition(":")
    if name not in POINTS:
        msg = f'{VARIABLE} names the unknown point "{name}". There are: {", ".join(POINTS)}'
        raise ConfigError(msg)
    if nth and not (nth.isascii() and nth.isdigit() and int(nth)):
        msg = f"{VARIABLE}={setting}: after the colon comes a number from 1 on, such as {name}:1"
        raise ConfigError(msg)
    left = int(nth or 1)

    def count(point: str) -> None:
        nonlocal left
        assert point in POINTS, point
        if point == name:
            left -= 1
            if not left:
                os._exit(EXIT_CODE)

    return count


def _passed(_point: str) -> None:
    """Go on."""


reached = armed(os.environ.get(VARIABLE))
"""Tell that the process has come to a point; it may end there."""
