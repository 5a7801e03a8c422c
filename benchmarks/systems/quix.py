"""Quix Streams, in an environment of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.systems.base import PYTHON_WORKLOADS, Job
from benchmarks.systems.venv import installed_versions, make_venv

PROGRAM = Path(__file__).parents[1] / "peers" / "quix_app.py"


class Quix:
    """One process, RocksDB state (rocksdict) with changelog topics, its own JSON serializers (orjson)."""

    name = "quix"
    workloads = PYTHON_WORKLOADS
    note = "one process; RocksDB state written once a checkpoint; table-join is its as-of join"

    def __init__(self) -> None:
        self._python = Path()

    def prepare(self, cache: Path) -> Mapping[str, str]:
        self._python = make_venv(cache, "quix", ["quixstreams"])
        return installed_versions(self._python, ["quixstreams", "confluent-kafka", "rocksdict"])

    def command(self, job: Job) -> list[str]:
        return [str(self._python), str(PROGRAM), *job.arguments()]

    def environment(self, job: Job) -> Mapping[str, str]:
        return {"TMPDIR": str(job.folder)}

    def decode(self, workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
        decoded = msgspec.json.decode(value)
        if workload == "window":
            return (key.decode(), decoded["start"]), decoded["value"]
        return key.decode(), decoded
