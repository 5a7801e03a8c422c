"""``streamlib topology module:attribute``: the plan of an application, without running it.

Next: `topology_diff`, two plans compared; `worker`.
"""

from typing import Annotated

import typer

from streamlib.cli.options import argument, command, option
from streamlib.cli.output import say
from streamlib.cli.topology_diff import topology_diff
from streamlib.cli.worker_options import TARGET_HELP


@command
def topology(
    target: Annotated[
        list[str],
        argument("MODULE:ATTRIBUTE | diff OLD NEW", help=f"{TARGET_HELP} Or diff and two of them to compare."),
    ],
    mermaid: Annotated[
        bool, option("--mermaid", scope="topology", help="A diagram for Mermaid, as in Markdown.")
    ] = False,
    as_json: Annotated[bool, option("--json", scope="topology", help="Everything, for programs.")] = False,
) -> None:
    """Print what an application consists of.

    Sub-topologies, processors, stores and topics, in the text that Kafka Streams' describe() gives.

    With diff it compares two versions, OLD and NEW: which stores, internal topics and sub-topologies stay, move, appear
    or are orphaned. The exit status is 0 when NEW can take over from OLD, 1 when the application must be reset first.
    Each is MODULE:ATTRIBUTE, or a .json file that --json has written.
    """
    from streamlib.cli.loading import load_topology

    if target[0] == "diff":
        topology_diff(target[1:])
        return
    if len(target) > 1:
        msg = f"one topology at a time; to compare two: streamlib topology diff {target[0]} {target[1]}"
        raise typer.BadParameter(msg)
    if mermaid and as_json:
        msg = "choose one of --mermaid and --json"
        raise typer.BadParameter(msg)
    loaded = load_topology(target[0])
    say((loaded.to_mermaid() if mermaid else loaded.to_json() if as_json else loaded.describe()).rstrip("\n"))
