from streamlib.dead_letters import STACKTRACE_CHARACTERS, FailedRecord, failed_record, is_letter, letter_headers
from streamlib.error_policies import ErrorContext
from streamlib.record import Headers


def context(topic: str | None = "in", headers: Headers = ()) -> ErrorContext:
    place = (None, None, None) if topic is None else (topic, 3, 42)
    return ErrorContext("processing", "0_3", "parse", *place, 7, headers, "k", "v", b"k", b"v")


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_the_headers_are_those_of_kafka_streams_behind_those_of_the_record() -> None:
    headers = letter_headers(context(headers=[("trace", b"1"), ("empty", None)]), raised(ValueError("no number")))
    stacktrace = dict(headers)["__streams.errors.stacktrace"]
    assert [(name, value) for name, value in headers if name != "__streams.errors.stacktrace"] == [
        ("trace", b"1"),
        ("empty", None),
        ("__streams.errors.exception", b"ValueError"),
        ("__streams.errors.message", b"no number"),
        ("__streams.errors.topic", b"in"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"42"),
        ("__streamlib.errors.node", b"parse"),
    ]
    assert stacktrace is not None
    assert b"raise error\nValueError: no number" in stacktrace


def test_a_letter_is_taken_apart_again() -> None:
    headers = letter_headers(context(headers=[("trace", b"1")]), raised(KeyError("x")))
    letter = failed_record(b"k", b"v", 7, headers)
    assert letter == FailedRecord(
        b"k", b"v", 7, [("trace", b"1")], "KeyError", "'x'", letter.stacktrace, "in", 3, 42, "parse"
    )
    assert (is_letter(headers), is_letter([("trace", b"1")])) == (True, False)


def test_what_is_not_known_of_a_row_without_a_record_is_left_open() -> None:
    headers = letter_headers(context(topic=None), raised(ValueError()))
    assert {name: value for name, value in headers if name.endswith(("topic", "partition", "offset"))} == {
        "__streams.errors.topic": None,
        "__streams.errors.partition": b"-1",
        "__streams.errors.offset": b"-1",
    }
    letter = failed_record(None, None, 0, headers)
    assert (letter.topic, letter.partition, letter.offset) == (None, None, None)


def test_a_long_story_is_cut_and_strange_characters_do_not_hinder() -> None:
    headers = dict(letter_headers(context(), raised(ValueError("x" * 100_000 + "\ud800"))))
    assert all(len(value or b"") <= STACKTRACE_CHARACTERS for value in headers.values())
    assert b"?" in (dict(letter_headers(context(), raised(ValueError("\ud800"))))["__streams.errors.message"] or b"")
