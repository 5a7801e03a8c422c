"""The ``streamlib`` command."""


def main() -> None:
    """Run the command line."""
