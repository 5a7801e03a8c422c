import json
import logging
import sys

from streamlib.cli.logs import JsonFormatter, TextFormatter


def record(error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError("wrong")
        except ValueError:
            info = sys.exc_info()
    made = logging.LogRecord("streamlib.x", logging.WARNING, "x.py", 1, "took %d ms\nin all", (5,), info)
    made.created = 1_700_000_000.1234
    return made


def test_a_line_of_text_says_when_how_severe_and_who() -> None:
    assert TextFormatter().format(record()) == "2023-11-14T22:13:20.123Z WARNING streamlib.x: took 5 ms\nin all"
    assert TextFormatter().format(record(error=True)).endswith("ValueError: wrong")


def test_json_is_one_line_with_the_slot_of_several_workers() -> None:
    line = JsonFormatter(slot=2).format(record(error=True))
    assert "\n" not in line
    document = json.loads(line)
    assert document.pop("exception").endswith("ValueError: wrong")
    assert document == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "warning",
        "logger": "streamlib.x",
        "message": "took 5 ms\nin all",
        "slot": 2,
    }
    assert "slot" not in json.loads(JsonFormatter().format(record()))
