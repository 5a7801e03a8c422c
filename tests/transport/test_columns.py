"""Stored slices come back as they were, and what cannot be read is said so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import TransportError
from streamlib.transport.embedded.columns import Columns, cut, decode, encode, join

cells = st.none() | st.binary(max_size=20)
row = st.tuples(cells, cells, st.integers(-1, 2**62), st.lists(st.tuples(st.text(max_size=5), cells), max_size=3))


def columns_of(rows, with_headers):
    keys, values, timestamps, headers = ([entry[part] for entry in rows] for part in range(4))
    return Columns(keys, values, timestamps, [tuple(row) for row in headers] if with_headers else None)


@given(st.lists(row, max_size=20), st.booleans())
def test_columns_come_back_equal_when_encoded_and_decoded(rows, with_headers):
    columns = columns_of(rows, with_headers)
    assert decode(encode(columns)) == columns


@given(st.lists(row, max_size=20), st.integers(0, 20), st.booleans())
def test_columns_come_back_equal_when_cut_and_joined(rows, at, with_headers):
    columns = columns_of(rows, with_headers)
    assert join([cut(columns, 0, at), cut(columns, at, len(rows))]) == columns


def test_rows_without_headers_get_empty_ones_when_joined_to_rows_with_some():
    bare, headed = columns_of([(b"a", b"1", 1, [])], False), columns_of([(b"b", b"2", 2, [("h", b"x")])], True)
    assert join([bare, headed]).headers == [(), (("h", b"x"),)]


@pytest.mark.parametrize(
    ("blob", "mend"), [(b"\x02anything", "version"), (b"", "version"), (b"\x01\x94\x91", "restore")]
)
def test_reading_is_refused_with_a_mend_when_the_blob_is_newer_or_damaged(blob, mend):
    with pytest.raises(TransportError, match=mend):
        decode(blob)
