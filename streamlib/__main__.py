"""``python -m streamlib`` is the ``streamlib`` command."""

from streamlib.cli.main import main

main()
