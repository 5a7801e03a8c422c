import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib import StreamsBuilder, serdes
from streamlib.testing import TopologyTestDriver, table
from streamlib.testing.text_tables import TextRow, formatted, parsed

CELLS = (
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())
)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, st.integers(0))))
def test_rows_are_the_same_when_they_were_written_as_a_table(rows) -> None:
    assert parsed(formatted(rows)) == [TextRow(*row) for row in rows]


def test_columns_may_come_in_any_order_and_some_be_left_out() -> None:
    assert parsed("time | key\n 5 | a b \n\n 6 | null") == [TextRow("a b", None, 5), TextRow(None, None, 6)]
    assert parsed("  \n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key | worth\na | 1", "names some of the columns key, value, time, once each: 'key | worth'"),
        ("key | key\na | b", "once each"),
        ("key | value\na", "has 1 cells under 2 columns: 'a'"),
    ],
)
def test_a_table_is_refused_when_it_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        table(text)


def test_records_go_in_and_come_out_as_tables() -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", serdes.STRING, serdes.JSON).filter(lambda _, value: value is not None).to("out")
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic("in", serdes.STRING, serdes.JSON, start_ms=7).pipe_table(
            """
            key | value    | time
            a   | {"n": 1} | 3
            b   | null     | 4
            c   | text     | null
            """
        )
        out = driver.create_output_topic("out", serdes.STRING, serdes.JSON)
        assert out.read_table() == table(
            """
            key | value    | time
            a   | {"n": 1} | 3
            c   | text     | 7
            """
        )
