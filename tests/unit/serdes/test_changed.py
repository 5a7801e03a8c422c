import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamlib import serdes
from streamlib.record import Change

CHANGED = serdes.changed(serdes.STRING)


@pytest.mark.parametrize(
    ("change", "data"),
    [(Change("AB", "C"), "0441424302"), (Change("A", None), "4101"), (Change(None, "A"), "4100")],
)
def test_bytes_are_those_of_java_when_a_change_is_serialized(change: Change, data: str) -> None:
    assert CHANGED.serialize(change) == bytes.fromhex(data)
    assert CHANGED.deserialize(bytes.fromhex(data)) == change


@pytest.mark.parametrize(
    ("data", "change"),
    [("410004", Change("A", None)), ("410103", Change(None, "A")), ("044142430105", Change("AB", "C"))],
)
def test_the_latest_flag_is_skipped_when_an_older_writer_wrote_it(data: str, change: Change) -> None:
    assert CHANGED.deserialize(bytes.fromhex(data)) == change


@pytest.mark.parametrize(("length", "varint"), [(63, "7e"), (64, "8001"), (100, "c801"), (20_000, "c0b802")])
def test_the_length_is_a_zigzag_varint_when_both_sides_are_there(length: int, varint: str) -> None:
    assert CHANGED.serialize(Change("x" * length, "y")).startswith(bytes.fromhex(varint) + b"x")


@given(st.text() | st.none(), st.text())
@example("", "")
@example(None, "")
def test_a_change_comes_back_when_it_is_serialized(new: str | None, old: str) -> None:
    change = Change(new, old)
    assert CHANGED.deserialize(CHANGED.serialize(change)) == change


def test_a_change_is_refused_when_it_is_empty() -> None:
    with pytest.raises(ValueError, match="neither"):
        CHANGED.serialize(Change(None, None))


@pytest.mark.parametrize("data", [b"A\x06", b"A\xff", b"\xff\x02", b"\x06A\x02"])
def test_bytes_are_refused_when_no_writer_made_them(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"must end|never ends|there are 1"):
        CHANGED.deserialize(data)
