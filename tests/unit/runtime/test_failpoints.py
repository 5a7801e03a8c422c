import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamlib.errors import ConfigError
from streamlib.runtime import failpoints

PASS_THREE_TIMES = """
from streamlib.runtime import failpoints
for time in range(3):
    failpoints.reached("after-send")
    failpoints.reached("before-end")
    print(time, flush=True)
"""


def passing(setting: str | None) -> subprocess.CompletedProcess[str]:
    """A process that comes to two points three times, and says so each time."""
    environ = {name: value for name, value in os.environ.items() if name != failpoints.VARIABLE}
    environ |= {} if setting is None else {failpoints.VARIABLE: setting}
    command = [sys.executable, "-c", PASS_THREE_TIMES]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("setting", "times"),
    [("before-end:1", 0), ("before-end", 0), ("before-end:3", 2)],
)
def test_process_dies_at_the_point_when_it_is_there_for_the_nth_time(setting: str, times: int) -> None:
    done = passing(setting)
    assert done.returncode == failpoints.EXIT_CODE
    assert done.stdout.split() == [str(time) for time in range(times)]


@pytest.mark.parametrize("setting", [None, "", "before-end:4", "mid-restore:1"])
def test_process_goes_on_when_the_point_does_not_come_so_often(setting: str | None) -> None:
    done = passing(setting)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2"])


@pytest.mark.parametrize("setting", ["before_end:1", ":1", "before-end:0", "before-end:-1", "before-end:²"])
def test_setting_is_refused_when_it_means_nothing(setting: str) -> None:
    with pytest.raises(ConfigError, match=failpoints.VARIABLE):
        failpoints.armed(setting)


def test_armed_process_refuses_a_point_when_nobody_has_declared_it() -> None:
    with pytest.raises(AssertionError, match="nowhere"):
        failpoints.armed("before-end:1")("nowhere")


def test_every_point_is_somewhere_in_the_runtime() -> None:
    texts = [path.read_text() for path in Path(failpoints.__file__).parent.glob("*.py")]
    placed = {name for text in texts for name in re.findall(r'\breached\("([\w-]+)"\)', text)}
    assert placed == set(failpoints.POINTS)
