"""The command line as its users meet it: in this process where only its output counts, else as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from streamlib.cli.main import app


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

    def produce(self, topic: str, lines: Sequence[Any], *flags: str, fails: int = 0) -> Answer:
        """Run ``produce`` with lines; those that are no text are written as JSON."""
        path = self.folder / "lines.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return self("produce", topic, "--file", str(path), *flags, fails=fails)

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
