"""``streamlib topology diff OLD NEW``: may a new version of an application take over from the old one?

Next: `topology/difference`, which compares.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamlib.cli.exits import FAILURE
from streamlib.cli.output import say

if TYPE_CHECKING:
    from streamlib.topology.outline import Outline


def topology_diff(versions: Sequence[str]) -> None:
    """Print what changes from the first version to the second.

    Args:
        versions: OLD and NEW, each as ``module:attribute`` or as a file that ``streamlib topology --json`` has written.

    Raises:
        typer.BadParameter: Not two.
        typer.Exit: With 1: the application needs a reset.
        ConfigError: One of them cannot be loaded.
    """
    from streamlib.topology.difference import difference

    if len(versions) != 2:
        msg = f"diff compares two: streamlib topology diff OLD NEW; got {len(versions)}"
        raise typer.BadParameter(msg)
    found = difference(*map(_outline, versions))
    say(str(found))
    if found.needs_reset:
        raise typer.Exit(FAILURE)


def _outline(version: str) -> "Outline":
    from streamlib.cli.loading import load_topology
    from streamlib.errors import ConfigError
    from streamlib.topology.outline import read_outline

    file = Path(version)
    if not version.endswith(".json") and not file.is_file():
        return read_outline(load_topology(version).to_json())
    try:
        return read_outline(file.read_text())
    except (OSError, ValueError) as error:
        msg = f"{version} cannot be read as a topology: {error}"
        raise ConfigError(msg) from None
