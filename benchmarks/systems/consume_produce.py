"""What bounds streamlib: the same bytes consumed and produced through its own transport, with nothing in between."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.systems.base import Job


class ConsumeProduce:
    """The transport alone: poll columns, append columns, commit every second."""

    name = "consume-produce"
    workloads = ("consume-produce",)
    note = "streamlib's transport alone: the bytes of the input to the output, no processing"

    def prepare(self, cache: Path) -> Mapping[str, str]:
        return {"streamlib": version("streamlib"), "aiokafka": version("aiokafka")}

    def command(self, job: Job) -> list[str]:
        return [sys.executable, "-m", "benchmarks.bare_transport", *job.arguments()]

    def environment(self, job: Job) -> Mapping[str, str]:
        return {}

    def decode(self, workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
        return key.decode(), msgspec.json.decode(value)
