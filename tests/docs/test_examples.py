"""The Python of each page of the documentation runs: its blocks one after the other, as a reader would type them.

A block that shows only a form, or needs a server, is written as ``{code-block} python`` instead and not run.
"""

import re
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts and BLOCK.search(path.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_run_when_a_page_is_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names: dict[str, object] = {"__name__": "example"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        code = compile("\n" * line + block[1], str(page), "exec")  # errors tell the line of the page
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            exec(code, names)
    cleanup = names.get("driver")
    if hasattr(cleanup, "close"):
        cleanup.close()


def test_there_are_examples() -> None:
    assert PAGES
