import sys
from pathlib import Path
from textwrap import dedent

import pytest

from streamlib.cli.loading import load_topology
from streamlib.errors import ConfigError, TopologyError

MODULE = """
from streamlib.errors import TopologyError
from streamlib.topology.topology import Topology

topology = Topology("words", {}, {}, ())

class StreamsBuilder:
    def build(self):
        return topology

class Holder:
    inner = topology

builder = StreamsBuilder()
number = 5

def make():
    return topology

def make_builder():
    return builder

def needs(argument):
    return topology

def mistaken():
    raise TopologyError(["two sources read one topic"])

def failing():
    return {}["key"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module `wordcount_app` in it; imports of the test are forgotten."""
    (tmp_path / "wordcount_app.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("attribute", ["topology", "Holder.inner", "make()"])
def test_a_topology_is_loaded_from_the_current_folder(attribute: str) -> None:
    assert load_topology(f"wordcount_app:{attribute}").name == "words"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("wordcount_app", r"Write module:attribute or module:factory\(\), e\.g\. wordcount_app:topology"),
        ("wordcount_app:", r"Write module:attribute"),
        ("wordcount_app:make(1)", r"Write module:attribute"),
        ("wordcount_app.py:topology", r"names a file. Name the module: wordcount_app:topology"),
        ("./apps/words.py", r"Name the module: apps\.words:topology"),
        ("wordcount_ap:topology", r"there is no module wordcount_ap\. Did you mean wordcount_app\?"),
        ("zzz:topology", r"there is no module zzz\. Modules are looked for in the current folder \("),
        ("wordcount_app.part:topology", r"there is no module wordcount_app\.part"),
        ("wordcount_app:topologi", r'has no attribute "topologi"\. Did you mean "topology"\?'),
        ("wordcount_app:zzz", r'Did you mean "topology"\?'),
        ("wordcount_app:Holder.innner", r'wordcount_app\.Holder has no attribute "innner"\. Did you mean "inner"'),
        ("wordcount_app:builder", r"is a StreamsBuilder, not a Topology\. Call build\(\): topology = builder\.build"),
        ("wordcount_app:make_builder()", r"is a StreamsBuilder, not a Topology\. Call build\(\)"),
        ("wordcount_app:make", r"is the function make\(\), .* write wordcount_app:make\(\)"),
        ("wordcount_app:number", r"is an int, not a Topology"),
        ("wordcount_app:Holder", r"is the class Holder, not a Topology"),
        ("wordcount_app:number()", r"calls an int. Leave out the \(\)"),
        ("wordcount_app:needs()", r"cannot be called without arguments .*'argument'"),
        ("wordcount_app:failing()", r"calling wordcount_app:failing\(\) failed: KeyError: 'key'"),
    ],
)
def test_a_target_that_is_no_topology_tells_the_mend(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_topology(target)


def test_an_import_that_fails_inside_the_module_is_not_taken_for_a_missing_module(folder: Path) -> None:
    (folder / "needy_app.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(ConfigError, match=r"importing needy_app failed: .*not_installed_anywhere") as raised:
        load_topology("needy_app:topology")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_a_module_that_raises_is_told_with_its_error(folder: Path) -> None:
    (folder / "broken_app.py").write_text(
        dedent("""\
        def f(:
    """)
    )
    with pytest.raises(ConfigError, match=r"importing broken_app failed: SyntaxError: .*line 1"):
        load_topology("broken_app:topology")


@pytest.mark.usefixtures("folder")
def test_mistakes_of_the_topology_pass_unchanged() -> None:
    with pytest.raises(TopologyError, match="two sources read one topic"):
        load_topology("wordcount_app:mistaken()")
