"""The ``streamlib`` command: every subcommand, one file each. Heavy imports are inside them, so that help is quick.

Next: `options`, how a command is declared; then `worker`, what the command is for.
"""

from typing import Annotated

import typer

from streamlib.cli import consume, demo, dev, dlq, groups, lag, produce, reset, topics, topology, version, worker

app = typer.Typer(
    name="streamlib",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich alone would take longer than everything else in --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def streamlib(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=version.print_version, is_eager=True),
    ] = False,
) -> None:
    """Kafka Streams for Python: run applications, and look after their topics and groups.

    Every flag can also be set by the environment variable shown beside it.
    """


app.command("worker")(worker.worker)
app.command("topology")(topology.topology)
app.command("produce")(produce.produce)
app.command("consume")(consume.consume)
app.add_typer(topics.app, name="topics")
app.command("groups")(groups.groups)
app.command("lag")(lag.lag)
app.command("reset")(reset.reset)
app.add_typer(dlq.app, name="dlq")
app.command("demo")(demo.demo)
app.add_typer(dev.app, name="dev")
app.command("version")(version.version)


def main() -> None:
    """Run the command line."""
    app(prog_name="streamlib")
