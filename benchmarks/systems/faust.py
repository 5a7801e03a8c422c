"""faust-streaming, in an environment of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.systems.base import PYTHON_WORKLOADS, Job
from benchmarks.systems.venv import installed_versions, make_venv

PROGRAM = Path(__file__).parents[1] / "peers" / "faust_app.py"


class Faust:
    """One worker with its tables in memory, without the others' disk work, and with their changelog topics."""

    name = "faust"
    workloads = PYTHON_WORKLOADS
    note = "one worker; tables in memory (no RocksDB) with changelog topics; an agent fills the joined table"

    def __init__(self) -> None:
        self._python = Path()

    def prepare(self, cache: Path) -> Mapping[str, str]:
        self._python = make_venv(cache, "faust", ["faust-streaming[fast]", "uvloop"])
        return installed_versions(self._python, ["faust-streaming", "aiokafka", "mode-streaming", "uvloop"])

    def command(self, job: Job) -> list[str]:
        return [str(self._python), str(PROGRAM)]

    def environment(self, job: Job) -> Mapping[str, str]:
        return {"BENCHMARK_ARGUMENTS": " ".join(job.arguments()), "TMPDIR": str(job.folder)}

    def decode(self, workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
        if workload == "window":
            user, _, start = key.decode().partition("@")
            return (user, int(start)), int(value)
        if workload in ("count", "repartition"):
            return key.decode(), int(value)
        return key.decode(), msgspec.json.decode(value)
