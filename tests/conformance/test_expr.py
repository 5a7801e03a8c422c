"""The rules of the expression language that are easy to get wrong."""

from typing import Any

import pytest

from streamlib.record import Windowed
from tests.conformance.expr import JSON, canonical, compiled, function, predicate, text

WINDOWED = Windowed("k", 5, 15)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("value", {"a": 1}),
        (None, None),
        ({"fn": "const", "value": "x"}, "x"),
        ({"fn": "field", "name": "a"}, 1),
        ({"fn": "field", "name": "b"}, None),
        ({"fn": "field", "name": "start", "args": ["key"]}, 5),
        ({"fn": "set", "name": "b", "args": ["value", 2]}, {"a": 1, "b": 2}),
        ({"fn": "set", "name": "b", "args": [7, 2]}, {"b": 2}),
        ({"fn": "obj", "fields": {"x": 1, "y": {"fn": "str", "args": ["key"]}}}, {"x": 1, "y": "[k@5/15]"}),
        ({"fn": "at", "args": [{"fn": "list", "args": [1, 2, 3]}, -1]}, 3),
        ({"fn": "at", "args": [{"fn": "list", "args": [1]}, 1]}, None),
        ({"fn": "append", "args": [1, None]}, [None]),
        ({"fn": "remove_first", "args": [{"fn": "const", "value": [1, True, 1]}, 1]}, [True, 1]),
        ({"fn": "upper", "args": [{"fn": "const", "value": "aßé"}]}, "Aßé"),
        ({"fn": "length", "args": [{"fn": "const", "value": "𝄞"}]}, 1),
        ({"fn": "length", "args": [True]}, None),
        ({"fn": "to_long", "args": [{"fn": "const", "value": "-12"}]}, -12),
        ({"fn": "to_long", "args": [{"fn": "const", "value": "١"}]}, None),
        ({"fn": "to_long", "args": [True]}, None),
        ({"fn": "add", "args": [2**63 - 1, 1]}, -(2**63)),
        ({"fn": "add", "args": [1, True]}, None),
        ({"fn": "mod", "args": [-1, 3]}, 2),
        ({"fn": "mod", "args": [1, 0]}, None),
        ({"fn": "max", "args": [1, True, None, 3]}, 3),
        ({"fn": "min", "args": [True]}, None),
        ({"fn": "eq", "args": [1, True]}, False),
        ({"fn": "lt", "args": [{"fn": "const", "value": "Z"}, {"fn": "const", "value": "a"}]}, True),
        ({"fn": "lt", "args": [1, {"fn": "const", "value": "a"}]}, False),
        ({"fn": "and", "args": [True, 1]}, False),
        ({"fn": "not", "args": [1]}, True),
        ({"fn": "coalesce", "args": [None, False]}, False),
        ({"fn": "if", "args": [False, {"fn": "fail_if", "args": [True]}, 2]}, 2),
        ({"fn": "concat", "sep": "-", "args": [1, None, {"fn": "const", "value": [True, "é"]}]}, '1-null-[true,"é"]'),
    ],
)
def test_the_result_is_that_of_the_specification(expression: Any, result: Any) -> None:
    found = compiled(expression)({"key": WINDOWED, "value": {"a": 1}})
    assert (type(found), found) == (type(result), result)


def test_only_true_passes_when_a_predicate_is_evaluated() -> None:
    assert [predicate("value")(None, value) for value in (True, 1, "true", None)] == [True, False, False, False]


def test_a_user_function_fails_when_it_is_told_to() -> None:
    with pytest.raises(RuntimeError, match="fail_if"):
        function({"fn": "fail_if", "args": ["value", 1]}, "value")(True)


def test_json_is_canonical_when_it_is_written() -> None:
    assert JSON.serialize({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()
    assert canonical({"w": WINDOWED}) == '{"w":{"end":15,"key":"k","start":5}}'
    assert text(Windowed(Windowed("k", 1, 2), 3, 4)) == "[[k@1/2]@3/4]"
    with pytest.raises(ValueError, match="no numbers but integers"):
        JSON.deserialize(b"1.5")
