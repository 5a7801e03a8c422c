"""``streamlib dev kafka``: a real Kafka on this machine, to develop against. Next: `testing/kafka_broker`."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from streamlib.cli.options import command, option
from streamlib.cli.output import say


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C; no exception handler on the way may take it for an error."""


@command
def kafka(
    port: Annotated[int, option("--port", scope="dev", help="Port of the first broker; 0 for a free one.")] = 9092,
    data: Annotated[
        Path | None,
        option("--data", scope="dev", help="Keep topics in this folder.", show_default="a temporary folder"),
    ] = None,
    brokers: Annotated[int, option("--brokers", scope="dev", min=1, help="How many brokers.")] = 1,
) -> None:
    """Run Apache Kafka until Ctrl-C or SIGTERM, and print its address.

    Needs Java; Kafka itself is fetched by Maven the first time. It listens on this machine only.
    """
    from streamlib.testing.kafka_broker import KafkaBroker

    broker = KafkaBroker(brokers=brokers, port=port, data_dir=data)

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, kill)
        signal.signal(signal.SIGINT, kill)
        raise _Stopped

    def kill(_number: int, _frame: FrameType | None) -> None:
        broker.kill()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with broker:
            say(f"kafka://{broker.address}")
            broker.wait()
    except _Stopped:
        pass


app = typer.Typer(help="Servers to develop against.", no_args_is_help=True, rich_markup_mode=None)
app.command("kafka")(kafka)


@app.callback()
def dev() -> None:
    """Servers to develop against."""
