"""Directives that print tables made from the code, so that the reference cannot differ from it.

``settings-table``: names, defaults and meanings of `StreamsConfig`. ``error-tree``: the drawing in `streamlib.errors`.
``public-names``: what a module lists in ``__all__``, with its docstrings. ``commands``: the help of every command.
"""

import importlib
import inspect
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command
from typer.testing import CliRunner

from streamlib import errors
from streamlib.cli.main import app
from streamlib.config import StreamsConfig


class SettingsTable(SphinxDirective):
    """One row for each field of `StreamsConfig`, with what its docstring says."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        meanings = attributes(StreamsConfig)
        rows = [f"| `{entry.name}` | {default(entry)} | {meanings[entry.name]} |" for entry in fields(StreamsConfig)]
        text = "\n".join(["| Setting | Default | Meaning |", "|---|---|---|", *rows])
        return self.parse_text_to_nodes(text)


class ErrorTree(SphinxDirective):
    """The drawing that opens `streamlib.errors`, as it stands."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """A literal block."""
        drawing = [line for line in inspect.getdoc(errors).splitlines() if line.startswith("    ")]  # type: ignore[union-attr]
        text = inspect.cleandoc("\n".join(drawing))
        block = nodes.literal_block(text, text)
        block["language"] = "none"
        return [block]


class Commands(SphinxDirective):
    """A section for each command of the command line, with the help that it prints."""

    def run(self) -> list[nodes.Node]:
        """The sections; a group of commands gives one for each of them."""
        return [self._section(path) for path in paths(get_command(app))]

    def _section(self, path: list[str]) -> nodes.section:
        told = CliRunner().invoke(app, [*path, "--help"], prog_name="streamlib", env={"COLUMNS": "110"})
        assert told.exit_code == 0, told.output
        title = " ".join(["streamlib", *path])
        block = nodes.literal_block(told.output, told.output.strip())
        block["language"] = "none"
        return nodes.section("", nodes.title(title, title), block, ids=[nodes.make_id(title)])


def paths(command: Any) -> list[list[str]]:
    """The words after ``streamlib`` of every command that does something."""
    if not hasattr(command, "commands"):
        return [[]]
    return [[name, *rest] for name, inner in command.commands.items() for rest in paths(inner)]


class PublicNames(SphinxDirective):
    """Documentation of every name in a module's ``__all__``; submodules and errors have pages of their own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One entry for each name."""
        module = importlib.import_module(self.arguments[0])
        seen: set[int] = self.env.current_document.setdefault("documented names", set())
        entries: list[str] = []
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) not in seen:
                seen.add(id(value))
                entries += documented(f"{module.__name__}.{name}", value)
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *entries, "```"]))


def documented(name: str, value: object) -> list[str]:
    """The autodoc directive for a name, as lines; none for a submodule or an error."""
    if inspect.ismodule(value) or (inspect.isclass(value) and issubclass(value, BaseException)):
        return []
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", ""]
    if inspect.isfunction(value):
        return [f".. autofunction:: {name}", ""]
    return [f".. autodata:: {name}", "   :no-value:", ""]


def attributes(documented: type) -> dict[str, str]:
    """Name to description of the ``Attributes:`` of a docstring, each on one line."""
    text = (inspect.getdoc(documented) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", meaning).replace("|", "\\|") for name, meaning in entries}


def default(entry: Field[Any]) -> str:
    """The default as one writes it, with the home folder as ``~``."""
    if entry.default is not MISSING:
        return f"`{entry.default!r}`" if not isinstance(entry.default, int) else f"`{entry.default:_}`"
    if entry.default_factory is not MISSING:
        value = entry.default_factory()
        return f"`{value!r}`" if not isinstance(value, Path) else f"`{str(value).replace(str(Path.home()), '~')}`"
    return "required"


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    sphinx.add_directive("settings-table", SettingsTable)
    sphinx.add_directive("error-tree", ErrorTree)
    sphinx.add_directive("public-names", PublicNames)
    sphinx.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
