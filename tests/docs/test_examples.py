"""The Python of each page of the documentation runs: its blocks one after the other, as a reader would type them.

Blocks of an included page run where it is included. A block that shows only a form, or needs a server, is written as
``{code-block} python`` instead and not run.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(?:\{include\} /(?P<included>\S+)\n|python\n(?P<code>.*?)^)```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[CodeType]:
    """The compiled blocks of a page."""
    text = page.read_text()
    for block in BLOCK.finditer(text):
        if block["included"] is not None:
            yield from blocks(DOCS / block["included"])
        else:
            line = text.count("\n", 0, block.start("code"))
            yield compile("\n" * line + block["code"], str(page), "exec")  # errors tell the line of the page


PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if not {"_build", "_parts"} & {*path.parts} and BLOCK.search(path.read_text())
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_run_when_a_page_is_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for code in blocks(page):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            exec(code, names)
    cleanup = names.get("driver")
    if hasattr(cleanup, "close"):
        cleanup.close()


def test_there_are_examples() -> None:
    assert PAGES


def test_an_included_page_brings_its_examples() -> None:
    page = DOCS / "reference/operations/stateless.md"
    assert [Path(code.co_filename).name for code in blocks(page)][:2] == ["run.md", "stateless.md"]
