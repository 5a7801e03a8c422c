"""Which functions are given the record context."""

from functools import partial
from typing import Any

import pytest

from streamlib.topology.topic_names import takes_context


class Extractor:
    def __call__(self, key: Any, value: Any, context: Any) -> str:
        return f"{context.topic}-out"


def by_default(key: Any, value: Any, prefix: str = "to-") -> str:
    return prefix + str(value)


@pytest.mark.parametrize(
    ("extractor", "expected"),
    [
        (lambda key, value: "t", False),
        (lambda key, value, context: "t", True),
        (lambda *given: "t", False),
        (by_default, False),  # the third argument is the user's own
        (Extractor(), True),
        (partial(Extractor(), 1), False),
        (max, False),  # has no signature
    ],
)
def test_the_context_is_given_only_when_the_function_needs_it(extractor: Any, expected: bool) -> None:
    assert takes_context(extractor) is expected


@pytest.mark.parametrize("wrong", [lambda: "t", lambda key: "t", lambda a, b, c, d: "t"])
def test_a_function_is_refused_when_it_takes_neither_two_nor_three_arguments(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"neither \(key, value\) nor"):
        takes_context(wrong)
