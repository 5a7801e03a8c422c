"""``streamlib topology module:attribute``: the plan of an application, without running it. Next: `worker`."""

from typing import Annotated

import typer

from streamlib.cli.options import argument, command, option
from streamlib.cli.output import say
from streamlib.cli.worker_options import TARGET_HELP


@command
def topology(
    target: Annotated[str, argument("MODULE:ATTRIBUTE", help=TARGET_HELP)],
    mermaid: Annotated[
        bool, option("--mermaid", scope="topology", help="A diagram for Mermaid, as in Markdown.")
    ] = False,
    as_json: Annotated[bool, option("--json", scope="topology", help="Everything, for programs.")] = False,
) -> None:
    """Print what an application consists of.

    Sub-topologies, processors, stores and topics, in the text that Kafka Streams' describe() gives.
    """
    from streamlib.cli.loading import load_topology

    if mermaid and as_json:
        msg = "choose one of --mermaid and --json"
        raise typer.BadParameter(msg)
    loaded = load_topology(target)
    say((loaded.to_mermaid() if mermaid else loaded.to_json() if as_json else loaded.describe()).rstrip("\n"))
