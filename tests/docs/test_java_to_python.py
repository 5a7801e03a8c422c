"""The table of names tells the truth, and leaves nothing out."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, is_typeddict

import pytest

import streamlib
import streamlib.serdes
import streamlib.testing

PAGE = Path(__file__).parents[2] / "docs/reference/java-to-python.md"
NAME = re.compile(r"([A-Za-z_][\w.]*)(?:\((\w+)=\))?")

OPTIONS = ["Consumed", "Materialized", "StreamJoined", "TableJoined"]
CLASSES = """
    StreamsBuilder TopologyBuilder KStream BranchedKStream KTable GlobalKTable KGroupedStream KGroupedTable
    CogroupedKStream TimeWindowedKStream SessionWindowedKStream TimeWindowedCogroupedKStream
    SessionWindowedCogroupedKStream TimeWindows SlidingWindows SessionWindows UnlimitedWindows JoinWindows EmitStrategy
    Suppressed BufferConfig Processor FixedKeyProcessor ValueTransformerWithKey ProcessorContext Cancellable Record
    Stores KeyValueStore WindowStore SessionStore VersionedKeyValueStore Topology
    testing.TopologyTestDriver testing.TestInputTopic testing.TestOutputTopic
"""


def rows() -> list[tuple[str, str, str]]:
    """The cells of every row that is not a heading."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if len(cells) == 3 and cells[:2] != ["Java", "Python"] and set(cells[0]) != {"-"}:
            found.append((cells[0], cells[1], cells[2]))
    return found


def python_names() -> list[str]:
    return [name for _, python, _ in rows() for name in re.findall(r"`([^`]+)`", python)]


def resolved(path: str) -> object:
    """What a dotted name stands for; a key of a TypedDict or field of a class counts as well.

    Raises:
        AttributeError: There is no such thing.
    """
    value: object = streamlib
    for part in path.split("."):
        if isinstance(value, type) and part in _annotated(value):
            value = _annotated(value)[part]
        else:
            value = getattr(value, part)
    return value


def parameters(function: Callable[..., Any]) -> Iterator[str]:
    """The names of the arguments of a function, those of its overloads and of its ``**options`` included."""
    function = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    for form in (function, *typing.get_overloads(function)):
        for name, parameter in inspect.signature(form).parameters.items():
            yield name
            if parameter.kind is parameter.VAR_KEYWORD and parameter.annotation is not Any:
                (options,) = get_args(parameter.annotation)
                yield from _annotated(get_origin(options) or options)


def _annotated(kind: type) -> dict[str, Any]:
    """The fields of a class; those of a TypedDict include what it inherits."""
    bases = [kind] if is_typeddict(kind) else kind.__mro__
    return {name: note for base in bases for name, note in vars(base).get("__annotations__", {}).items()}


def own(path: str) -> set[str]:
    """The public members of one of our classes that are more than data."""
    kind = typing.cast("type", resolved(path))
    bases = [base for base in kind.__mro__ if base.__module__.startswith("streamlib.")]
    members = {name for base in bases for name in vars(base) if not name.startswith("_")}
    return members - (set(_annotated(kind)) if path not in {"Record"} else set())


@pytest.mark.parametrize("name", dict.fromkeys(python_names()))
def test_a_name_of_the_table_exists(name: str) -> None:
    match = NAME.fullmatch(name)
    assert match is not None, name
    path, argument = match.groups()
    value = resolved(path)
    if argument is not None:
        assert argument in set(parameters(typing.cast("Callable[..., Any]", value)))


@pytest.mark.parametrize("path", CLASSES.split())
def test_every_public_method_is_in_the_table(path: str) -> None:
    listed = {name.partition("(")[0] for name in python_names()}
    assert {f"{path}.{member}" for member in own(path)} - listed == set()


@pytest.mark.parametrize("path", OPTIONS)
def test_every_option_is_in_the_table(path: str) -> None:
    listed = set(python_names())
    assert {f"{path}.{option}" for option in _annotated(getattr(streamlib, path))} - listed == set()


def test_the_classes_of_the_public_interface_are_checked_or_data() -> None:
    known = {*CLASSES.split(), *OPTIONS}
    listed = {name.partition(".")[0].partition("(")[0] for name in python_names()}
    others = {
        name
        for name in streamlib.__all__
        if inspect.isclass(getattr(streamlib, name)) and not issubclass(getattr(streamlib, name), Exception)
    }
    assert (
        others - known - listed - {"KafkaStreams", "StreamsConfig", "EagerBufferConfig", "StrictBufferConfig"} == set()
    )


def test_what_is_not_there_says_why() -> None:
    assert all(note for _, python, note in rows() if python == "—")
    assert [java for java, python, _ in rows() if python != "—" and "`" not in python] == []


def test_a_wrong_name_is_found() -> None:
    with pytest.raises(AttributeError):
        resolved("KStream.transform")
    assert "store" in set(parameters(streamlib.KTable.filter))
    assert "topic_configs" in set(parameters(streamlib.KStream.join))
    assert "nothing" not in set(parameters(streamlib.KStream.join))
