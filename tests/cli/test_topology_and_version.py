import json
import platform
from importlib.metadata import version

import pytest

from tests.cli.running import Cli


@pytest.fixture
def words(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The current folder has the word count application in a module of its own name."""
    cli.write_app(APPLICATION="words", SENTENCES="sentences", COUNTS="counts")
    (cli.folder / "app.py").rename(cli.folder / "shown_app.py")
    monkeypatch.chdir(cli.folder)
    monkeypatch.syspath_prepend(cli.folder)
    return cli


def test_a_topology_is_shown_as_text_as_a_diagram_and_as_json(words: Cli) -> None:
    from shown_app import topology

    assert words("topology", "shown_app:topology").out == topology.describe().rstrip("\n") + "\n"
    assert words("topology", "shown_app:topology", "--mermaid").out.rstrip() == topology.to_mermaid().rstrip()
    shown = words("topology", "shown_app:topology", "--json").out
    assert json.loads(shown) == json.loads(topology.to_json())
    assert words("topology", "shown_app:topology", "--json", "--mermaid", fails=2).out == ""


def test_the_versions_are_those_that_are_installed(cli: Cli) -> None:
    assert cli("--version").out == f"streamlib {version('streamlib')}\n"
    lines = dict(line.split(" ", 1) for line in cli("version").out.splitlines())
    assert lines == {
        "streamlib": version("streamlib"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("aiokafka", "rocksdict", "uvloop")},
    }
