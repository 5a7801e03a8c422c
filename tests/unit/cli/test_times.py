import pytest
import typer

from streamlib.cli.times import as_text, duration_ms, moment_ms


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1500", 1_500),
        ("250ms", 250),
        ("30s", 30_000),
        ("1.5h", 5_400_000),
        ("5m", 300_000),
        ("7d", 604_800_000),
        ("PT1H30M", 5_400_000),
        ("P1DT0.5S", 86_400_500),
        ("pt6h", 21_600_000),
        (" 2 s ", 2_000),
    ],
)
def test_a_duration_is_milliseconds_in_every_form(text: str, wanted: int) -> None:
    assert duration_ms(text) == wanted


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 minutes", "P", "PT", "1h30m"])
def test_a_duration_of_no_known_form_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"write 250ms, 30s"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1700000000123", 1_700_000_000_123),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01.250", 1_250),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_a_moment_is_utc_unless_it_names_an_offset(text: str, wanted: int) -> None:
    assert moment_ms(text) == wanted


def test_a_moment_of_no_known_form_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match=r'"yesterday" is no moment'):
        moment_ms("yesterday")


def test_a_timestamp_survives_the_way_to_text_and_back() -> None:
    assert as_text(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert moment_ms(as_text(1_700_000_000_123)) == 1_700_000_000_123
