"""What counts as equal between a result of Kafka Streams and ours. Both are as in the ``.expected.json`` files.

| part | rule |
|---|---|
| outputs | for each topic the same records in the same order; the order across topics is free |
| error | both fail in the same step |
| stores | the same rows, in the same order unless the store is windowed |
| dropped | equal |
| describe | the same sub-topologies, nodes and edges, in any order |
| internal_topics | the same names, kinds, configurations and fixed partition counts |
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tests.conformance.expr import canonical

Result = Mapping[str, Any]

NAMES = ("describe", "internal_topics")
RESULTS = ("outputs", "error", "stores", "dropped")

_SUBTOPOLOGY = re.compile(r"\s+Sub-topology: (\d+.*)")
_NODE = re.compile(r"    (Source|Processor|Sink): (\S+) \((topics?|stores|extractor class): \[?(.*?)\]?\)")
_EDGES = re.compile(r"\s+(-->|<--) (.*)")


def differences(expected: Result, actual: Result, parts: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """The parts that are not equal, each as what was expected and what was found."""
    views = {part: (VIEWS[part](expected), VIEWS[part](actual)) for part in parts}
    return {part: pair for part, pair in views.items() if pair[0] != pair[1]}


def first_difference(found: Mapping[str, tuple[Any, Any]]) -> str:
    """Where two results part first, in words: the part, the place in it, what was expected and what came."""
    part, (expected, given) = next(iter(found.items()))
    place = part
    while type(expected) is type(given) and isinstance(expected, dict | list | tuple):
        keys = list(range(max(len(expected), len(given))))
        if isinstance(expected, dict):
            keys = list(dict.fromkeys([*expected, *given]))
        missing = [key for key in keys if not (_has(expected, key) and _has(given, key))]
        key = next((key for key in keys if key in missing or expected[key] != given[key]), None)
        if key is None:  # equal members in another order
            break
        place += f"[{key}]"
        expected = expected[key] if _has(expected, key) else "nothing"
        given = given[key] if _has(given, key) else "nothing"
    return f"{place}: expected {expected!s:.300}, got {given!s:.300}"


def _has(container: Any, key: Any) -> bool:
    return key in container if isinstance(container, dict) else key < len(container)


def outputs(result: Result) -> dict[str, list[Any]]:
    """For each topic its records in order."""
    topics = defaultdict(list)
    for record in result.get("outputs", []):
        key, value = canonical(record["key"]), canonical(record["value"])
        topics[record["topic"]].append((record["step"], key, value, record["ts"], record.get("headers", [])))
    return dict(topics)


def error(result: Result) -> int | None:
    """The step that failed, -1 for building."""
    return result["error"]["step"] if "error" in result else None


def stores(result: Result) -> dict[str, list[str]]:
    """For each store its rows; those of a windowed store in an order of ours."""
    listed = {**result.get("stores", {}), **result.get("internal_stores", {})}
    rows = {name: [canonical(row) for row in store] for name, store in listed.items()}
    windowed = {name for name, store in listed.items() if any(_is_windowed(row) for row in store)}
    return {name: sorted(store) if name in windowed else store for name, store in rows.items()}


def _is_windowed(row: list[Any]) -> bool:
    return isinstance(row[0], dict) and "start" in row[0]


def describe(result: Result) -> dict[str, dict[str, Any]]:
    """Sub-topologies by their headings, nodes by name."""
    parts: dict[str, dict[str, Any]] = {}
    nodes: dict[str, Any] = {}
    for line in result.get("describe", "").splitlines():
        if heading := _SUBTOPOLOGY.fullmatch(line):
            nodes = parts[heading[1]] = {}
        elif found := _NODE.fullmatch(line):
            kind, name, what, names = found.groups()
            edges: dict[str, set[str]] = {}
            nodes[name] = (kind, what, set(names.split(", ")), edges)
        elif found := _EDGES.fullmatch(line):
            edges[found[1]] = set(found[2].split(", "))
        elif line.strip() not in {"", "Topologies:"}:
            msg = f"describe() has a line of no known form: {line!r}"
            raise ValueError(msg)
    return parts


VIEWS: dict[str, Callable[[Result], Any]] = {
    "outputs": outputs,
    "error": error,
    "stores": stores,
    "dropped": lambda result: result.get("dropped"),
    "describe": describe,
    "internal_topics": lambda result: result.get("internal_topics"),
}
