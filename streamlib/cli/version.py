"""``streamlib version``: what is installed."""

import typer

from streamlib.cli.options import command
from streamlib.cli.output import say

PARTS = ("aiokafka", "rocksdict", "uvloop")


def installed(name: str) -> str:
    """The version of a distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@command
def version() -> None:
    """Print the versions of streamlib and what it stands on."""
    import platform

    say(f"streamlib {installed('streamlib')}")
    say(f"python {platform.python_version()}")
    for name in PARTS:
        say(f"{name} {installed(name)}")


def print_version(wanted: bool) -> None:
    """The callback of ``--version``: prints it and ends."""
    if wanted:
        say(f"streamlib {installed('streamlib')}")
        raise typer.Exit
