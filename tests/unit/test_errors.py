"""The exception tree and its messages."""

import inspect

import pytest

from streamlib import errors
from streamlib.errors import StreamlibError, TopologyError, action_for

CLASSES = {name: cls for name, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__}


def drawn_tree() -> dict[str, str | None]:
    """Class name to parent, read from the drawing in the module's docstring."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        word = line.lstrip(" │├└─").split(" ")[0]
        if word in CLASSES:
            depth = line.index(word)
            above = [entry for entry in above if entry[0] < depth]
            parents[word] = above[-1][1] if above else None
            above.append((depth, word))
    return parents


def test_the_drawing_shows_the_tree_as_it_is() -> None:
    bases = {name: cls.__base__.__name__ for name, cls in CLASSES.items()}
    assert drawn_tree() == {name: None if name == "StreamlibError" else base for name, base in bases.items()}


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_every_error_is_a_streamlib_error_and_says_when_it_happens(cls: type[Exception]) -> None:
    assert issubclass(cls, StreamlibError)
    assert cls.__doc__


def test_one_mistake_is_the_message_itself() -> None:
    error = TopologyError(["a topology needs a source"])
    assert str(error) == "a topology needs a source"
    assert error.problems == ("a topology needs a source",)


def test_several_mistakes_are_numbered_in_order() -> None:
    error = TopologyError(["first", "second"])
    assert str(error) == "the topology has 2 mistakes:\n  1. first\n  2. second"


ACTIONS = {
    "retry": "BrokerUnavailableError",
    "start over": "CommitError DeliveryError DiskFullError OffsetOutOfRangeError RetryLaterError TaskMigratedError",
    "rebuild": "StateCorruptedError TaskCorruptedError",
    "apply the policy": "BufferFullError DeserializationError ProcessingError ProductionError RecordRefusedError "
    "RecordTooLargeError SerdeError",
    "refuse": "AuthorizationError ConfigError DataLossError InternalTopicError MissingTopicError TooManyErrorsError "
    "TopologyError",
    "stop": "BrokerLockedError ForkedError StalledError StateDirLockedError StateStoreError StreamlibError "
    "TransportError",
}


def test_every_error_has_one_consequence() -> None:
    made = {name: cls.__new__(cls) for name, cls in CLASSES.items()}
    found = {action: {name for name, error in made.items() if action_for(error) == action} for action in ACTIONS}
    assert found == {action: set(names.split()) for action, names in ACTIONS.items()}


@pytest.mark.parametrize("error", [ValueError("x"), AssertionError("x"), KeyboardInterrupt()])
def test_a_defect_stops_the_worker(error: BaseException) -> None:
    assert action_for(error) == "stop"
