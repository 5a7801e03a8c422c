from datetime import timedelta
from typing import Any

import pytest

from streamlib.config import StreamsConfig
from streamlib.error_policies import (
    DeadLetter,
    ErrorPolicy,
    Fail,
    Retry,
    Skip,
    dead_letter,
    fail,
    policy_of,
    retry,
    skip,
    topic_of,
    what_is_wrong,
)
from streamlib.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("fail", Fail()),
        ("skip", Skip()),
        ("dead-letter", DeadLetter(None)),
        ("dead-letter:my.topic", DeadLetter("my.topic")),
        ("retry:3", Retry(3, 0, Fail())),
        ("retry:1:skip", Retry(1, 0, Skip())),
        ("retry:2:dead-letter:t", Retry(2, 0, DeadLetter("t"))),
    ],
)
def test_a_policy_can_be_written(text: str, policy: ErrorPolicy) -> None:
    assert policy_of(text) == policy
    assert StreamsConfig("app", production_exception_handler=text).production_exception_handler == policy  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "skipp", "skip:x", "retry", "retry:x", "retry:0", "retry:1:retry:1", "retry:-1"])
def test_a_text_that_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"no error policy: use fail, skip|at least 1 attempt"):
        policy_of(text)


def test_retry_waits_in_ms_and_ends_with_a_decision() -> None:
    assert retry(2, timedelta(seconds=1.5)) == Retry(2, 1_500, Fail())
    assert retry(1, then=dead_letter("t")).then == DeadLetter("t")
    for wrong in ({"attempts": 0}, {"attempts": 1, "backoff": timedelta(-1)}, {"attempts": 1, "then": retry(1)}):
        with pytest.raises(ConfigError, match="retry"):
            retry(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["skip", 5, None, skip, fail, dead_letter, retry, Skip])
def test_what_is_no_policy_is_told(given: Any) -> None:
    wrong = what_is_wrong(given)
    assert wrong is not None
    assert "use fail(), skip()" in wrong


def test_policies_and_functions_can_be_used() -> None:
    assert [what_is_wrong(each) for each in (skip(), fail(), dead_letter(), retry(1), lambda _, __: skip())] == [
        None
    ] * 5


def test_the_topic_of_letters_is_found_behind_a_retry() -> None:
    assert topic_of(retry(1, then=dead_letter("t"))) == DeadLetter("t")
    assert [topic_of(each) for each in (skip(), retry(1), lambda _, __: dead_letter("t"))] == [None] * 3


@pytest.mark.parametrize("name", ["deserialization", "processing", "production"])
def test_a_setting_that_is_no_policy_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}_exception_handler: 5 is no error policy"):
        StreamsConfig.from_mapping({"application_id": "app", f"{name}.exception.handler": 5})


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="errors_max_share"):
        StreamsConfig("app", errors_max_share=share)
