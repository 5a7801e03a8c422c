"""The reference of operations has every method of the DSL and every option, and nothing that is not there."""

import inspect
import re
from pathlib import Path

import pytest

import streamlib

FOLDER = Path(__file__).parents[2] / "docs/reference/operations"
PAGES = {page.name: page.read_text() for page in sorted(FOLDER.glob("*.md"))}

OF_STREAMS = "stateless aggregations stream-stream-joins stream-table-joins processors async-calls deduplicate"
WHERE = {
    "StreamsBuilder": "builder",
    "KStream": OF_STREAMS,
    "BranchedKStream": "stateless",
    "KTable": "tables suppress table-table-joins",
    "KGroupedStream": "aggregations windows cogroup",
    "KGroupedTable": "tables",
    "CogroupedKStream": "cogroup",
    "TimeWindowedKStream": "windows",
    "SessionWindowedKStream": "windows",
    "TimeWindowedCogroupedKStream": "cogroup",
    "SessionWindowedCogroupedKStream": "cogroup",
    "Suppressed": "suppress",
    "BufferConfig": "suppress",
    "Processor": "processors",
    "ProcessorContext": "processors",
    "TopologyBuilder": "processors",
    "Stores": "stores",
    "KeyValueStore": "stores",
    "VersionedKeyValueStore": "stores",
}
OPTIONS = {
    "Consumed": "builder",
    "Materialized": "builder",
    "StreamJoined": "stream-stream-joins",
    "TableJoined": "foreign-key-joins",
}


def text(pages: str) -> str:
    return "\n".join(PAGES[f"{page}.md"] for page in pages.split())


def methods(name: str) -> set[str]:
    kind = getattr(streamlib, name)
    ours = [base for base in kind.__mro__ if base.__module__.startswith("streamlib.")]
    kinds = (staticmethod, classmethod)
    entries = [entry for base in ours for entry in vars(base).items()]
    found = {
        key for key, value in entries if callable(value) or inspect.isdatadescriptor(value) or isinstance(value, kinds)
    }
    return {key for key in found if not key.startswith("_")}


@pytest.mark.parametrize("name", WHERE)
def test_every_method_is_on_its_pages(name: str) -> None:
    page = text(WHERE[name])
    assert {method for method in methods(name) if not re.search(rf"\b{method}\b", page)} == set()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_on_its_page(name: str) -> None:
    page = text(OPTIONS[name])
    keys = {
        key
        for base in (getattr(streamlib, name), *getattr(streamlib, name).__orig_bases__)
        for key in getattr(base, "__annotations__", {})
    }
    assert keys
    assert {key for key in keys if not re.search(rf"\b{key}\b", page)} == set()


def test_every_page_has_an_example_that_runs() -> None:
    assert [name for name, page in PAGES.items() if name != "index.md" and "```python\n" not in page] == []


def test_every_page_is_in_the_list() -> None:
    listed = PAGES["index.md"].partition("maxdepth: 1\n")[2].partition("```")[0].split()
    assert {f"{name}.md" for name in listed} | {"index.md"} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_classes_that_a_page_names_are_public(page: str) -> None:
    named = set(re.findall(r"`((?:[A-Z][a-z]+){2,}|K[A-Z]\w+)[.`(]", PAGES[page]))
    of_java = {name for name in named if name.endswith(("InvalidTimestamp", "TimestampExtractor"))}
    assert named - of_java - {*streamlib.__all__, "TopologyTestDriver", "TypeError", "ValueError"} == set()
