"""streamlib topology diff."""

from pathlib import Path

import pytest

from tests.cli.running import Cli

APP = """
from streamlib import StreamsBuilder, serdes


def counting(store):
    builder = StreamsBuilder("app")
    grouped = builder.stream("in", serdes.STRING, serdes.STRING).group_by_key()
    grouped.count(store=store).to_stream().to("out", value_serde=serdes.INT64)
    return builder.build()

old, same, new = counting("counts"), counting("counts"), counting("totals")
"""


@pytest.fixture
def versions(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    (cli.folder / "versions_app.py").write_text(APP)
    monkeypatch.chdir(cli.folder)
    monkeypatch.syspath_prepend(cli.folder)
    return cli


def test_it_ends_with_0_when_the_new_version_can_take_over(versions: Cli) -> None:
    shown = versions("topology", "diff", "versions_app:old", "versions_app:same").out
    assert shown == (
        'store "counts" stays\nsub-topology 0 (in) stays\n\ncompatible: the application goes on where it stopped\n'
    )


def test_it_ends_with_1_and_says_why_when_a_reset_is_needed(versions: Cli) -> None:
    Path("old.json").write_text(versions("topology", "versions_app:old", "--json").out)
    shown = versions("topology", "diff", "old.json", "versions_app:new", fails=1).out
    assert 'store "counts" is orphaned: its changelog is left behind\n' in shown
    assert 'needs a reset:\n  store "counts" goes and "totals" of the same kind appears' in shown


def test_it_ends_with_78_when_a_file_is_no_topology(versions: Cli) -> None:
    Path("other.json").write_text("{}")
    assert (
        "other.json cannot be read as a topology"
        in versions("topology", "diff", "other.json", "versions_app:new", fails=78).err
    )
    assert "missing.json" in versions("topology", "diff", "missing.json", "versions_app:new", fails=78).err


def test_it_needs_two_versions(versions: Cli) -> None:
    assert "OLD NEW" in versions("topology", "diff", "versions_app:new", fails=2).err
    assert "diff" in versions("topology", "versions_app:old", "versions_app:new", fails=2).err
