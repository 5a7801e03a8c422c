"""The page about what goes wrong names tests and settings that are there."""

import ast
import re
from dataclasses import fields
from pathlib import Path

from streamlib import StreamsConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/bad-input.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| What", "|---"))]
OPTIONS = {"grace", "late_to", "timestamp_extractor="}


def names_of_tests() -> set[str]:
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_row_names_tests_that_are_there() -> None:
    there = names_of_tests()
    assert len(ROWS) > 30
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row.split("|")[-2])
        assert named, row
        assert set(named) <= there, row


def test_every_row_names_settings_that_are_there() -> None:
    known = {entry.name for entry in fields(StreamsConfig)} | OPTIONS
    for row in ROWS:
        assert set(re.findall(r"`([\w=]+)`", row.split("|")[-3])) <= known, row
