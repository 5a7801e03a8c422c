"""Types flow through a chain of operations, and a type checker refuses a function that does not fit."""

import re
from pathlib import Path

import pytest
from mypy import api

CHAIN = Path(__file__).with_name("chain.py")
ERROR = re.compile(r"chain\.py:(\d+): error: .*\[([\w-]+)\]$")
WANTED = re.compile(r"# E: ([\w-]+)$")


@pytest.mark.slow
def test_the_checker_finds_the_marked_mistakes_and_no_others() -> None:
    wanted = {
        (number, found[1])
        for number, line in enumerate(CHAIN.read_text().splitlines(), 1)
        if (found := WANTED.search(line))
    }
    output, crash, _ = api.run(["--strict", "--no-error-summary", "--hide-error-context", str(CHAIN)])
    assert crash == ""
    reported = {(int(found[1]), found[2]) for line in output.splitlines() if (found := ERROR.search(line))}
    # A lambda may be reported several times, with different codes; each line must show the one it is marked with.
    assert wanted <= reported, output
    assert {number for number, _ in reported} == {number for number, _ in wanted}, output
    assert len(wanted) >= 12
