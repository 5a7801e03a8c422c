"""The command line as its users meet it: in this process where only its output counts, else as a process."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from streamlib.cli.connection import BrokerOptions, administering
from streamlib.cli.main import app
from streamlib.record import TopicPartition
from streamlib.transport.base import OffsetAndMetadata

APPLICATION = """
from streamlib import StreamsBuilder, serdes

def split(sentence):
    return sentence.split()

builder = StreamsBuilder("APPLICATION")
(
    builder.stream("SENTENCES", serdes.STRING, serdes.STRING)
    .flat_map_values(split)
    .group_by(lambda _, word: word)
    .count(store="word-counts")
    .to_stream()
    .to("COUNTS", key_serde=serdes.STRING, value_serde=serdes.INT64)
)
topology = builder.build()
"""


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Cli:
    """Runs commands against one broker, in one folder."""

    broker: str
    folder: Path
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command."""
        return {"STREAMLIB_BROKER": self.broker, "STREAMLIB_STATE_DIR": str(self.folder / "state")}

    def __call__(self, *arguments: str, typed: str | None = None, fails: int = 0) -> Answer:
        """Run a command in this process; it ends with the code ``fails``."""
        result = CliRunner().invoke(app, arguments, input=typed, env=self.environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == fails, result.output
        return Answer(result.exit_code, result.stdout, result.stderr)

    def run(self, *arguments: str) -> Answer:
        """Run a command as a process of its own, to its end, which is success."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        return Answer(0, out, err)

    def produce(self, topic: str, lines: Sequence[Any], *flags: str, fails: int = 0) -> Answer:
        """Run ``produce`` with lines; those that are no text are written as JSON."""
        path = self.folder / "lines.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return self("produce", topic, "--file", str(path), *flags, fails=fails)

    def commit(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Commit offsets for a group without members."""

        async def committed() -> None:
            async with administering(BrokerOptions(broker=self.broker)) as admin:
                held = {TopicPartition(*tp): OffsetAndMetadata(offset) for tp, offset in offsets.items()}
                await admin.set_group_offsets(group, held)

        asyncio.run(committed())

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """The committed offsets of a group, as `lag` tells them."""
        found = json.loads(self("lag", group, "--json").out)
        return {(each["topic"], each["partition"]): each["committed"] for each in found["partitions"]}

    def topic_configs(self, topic: str) -> Mapping[str, str]:
        """The configuration of a topic."""

        async def asked() -> Mapping[str, str]:
            async with administering(BrokerOptions(broker=self.broker)) as admin:
                return (await admin.topic_configs([topic]))[topic]

        return asyncio.run(asked())

    def wait_for_records(self, topic: str, count: int) -> list[Any]:
        """The first records of a topic, once there are so many; values are int64."""
        process = self.start("consume", topic, "--follow", "--max-records", str(count), "--value-format", "int64")
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def write_app(self, **edits: str) -> None:
        """Write the word count application into the folder as module ``app``, with parts of it replaced."""
        text = APPLICATION
        for old, new in edits.items():
            assert old in text
            text = text.replace(old, new)
        (self.folder / "app.py").write_text(text)

    def start(self, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        """Start a command as a process of its own; ended with the test."""
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlib", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
