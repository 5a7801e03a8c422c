import pytest

from streamlib.errors import StateStoreError
from streamlib.state.memory import COMPACT_DELETED_ROWS, MemoryEngine


def test_deleted_rows_leave_memory_when_they_are_the_most() -> None:
    engine = MemoryEngine()
    engine.create("t")
    for number in range(10 * COMPACT_DELETED_ROWS):
        key = number.to_bytes(4, "big")
        engine.write({"t": {key: b"v"}}, {})
        engine.write({"t": {key: None}}, {})
    assert len(engine._tables["t"].rows) <= 2 * COMPACT_DELETED_ROWS


@pytest.mark.parametrize("end", [MemoryEngine.close, MemoryEngine.destroy])
def test_use_is_refused_when_the_engine_was_closed(end: object) -> None:
    engine = MemoryEngine()
    engine.create("t")
    assert callable(end)
    end(engine)
    with pytest.raises(StateStoreError, match="closed"):
        engine.get("t", b"k")
