from streamlib.record import Headers
from streamlib.runtime.buffered_changelog import BufferedChangelog


class Writer:
    def __init__(self) -> None:
        self.calls: list[list[tuple[bytes, bytes | None, int]]] = []
        self.headers: list[Headers] = []

    def append(
        self, keys: list[bytes], values: list[bytes | None], timestamps: list[int], headers: list[Headers] | None = None
    ) -> None:
        self.calls.append(list(zip(keys, values, timestamps, strict=True)))
        self.headers += headers or []


def test_rows_are_logged_together_in_order_when_a_run_ends() -> None:
    writer = Writer()
    changelog = BufferedChangelog(writer, caching=False)
    changelog.append([b"a"], [b"1"], [1])
    changelog.append([b"b", b"a"], [b"2", None], [2, 3])
    assert writer.calls == []
    changelog.log(commit=False)
    changelog.log(commit=True)
    assert writer.calls == [[(b"a", b"1", 1), (b"b", b"2", 2), (b"a", None, 3)]]


def test_only_last_updates_are_logged_at_the_commit_when_the_store_is_cached() -> None:
    writer = Writer()
    changelog = BufferedChangelog(writer, caching=True)
    changelog.append([b"a", b"b", b"a"], [b"1", b"2", b"3"], [1, 2, 3])
    changelog.log(commit=False)
    assert writer.calls == []
    changelog.log(commit=True)
    changelog.append([b"b"], [None], [4])
    changelog.log(commit=True)
    assert writer.calls == [[(b"b", b"2", 2), (b"a", b"3", 3)], [(b"b", None, 4)]]


def test_rows_with_headers_follow_those_before_them() -> None:
    writer = Writer()
    changelog = BufferedChangelog(writer, caching=False)
    changelog.append([b"a"], [b"1"], [1])
    changelog.append([b"b"], [b"2"], [2], [[("v", b"\x03")]])
    assert writer.calls == [[(b"a", b"1", 1)], [(b"b", b"2", 2)]]
    assert writer.headers == [[("v", b"\x03")]]


def test_nothing_is_logged_when_the_work_was_dropped() -> None:
    writer = Writer()
    for caching in (False, True):
        changelog = BufferedChangelog(writer, caching=caching)
        changelog.append([b"a"], [b"1"], [1])
        changelog.discard()
        changelog.log(commit=True)
    assert writer.calls == []
