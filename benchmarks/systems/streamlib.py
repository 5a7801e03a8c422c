"""streamlib itself: its worker as users start it, with the topologies of `benchmarks.topologies`."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.systems.base import ALL_WORKLOADS, EXACTLY_ONCE_WORKLOADS, Job
from benchmarks.systems.kafka_streams import decode_kafka


class Streamlib:
    """One worker process with the same commit interval as the peers, else its defaults."""

    name = "streamlib"
    workloads = (*ALL_WORKLOADS, *EXACTLY_ONCE_WORKLOADS)
    note = "one worker process; RocksDB state, write caches of its default size"

    def prepare(self, cache: Path) -> Mapping[str, str]:
        return {
            **{package: version(package) for package in ("streamlib", "aiokafka", "rocksdict", "msgspec")},
            "python": sys.version.split()[0],
        }

    def command(self, job: Job) -> list[str]:
        topology = f"benchmarks.topologies:{job.workload.replace('-', '_')}()"
        settings = {
            "application_id": job.application_id,
            "state_dir": str(job.folder),
            "processing_guarantee": job.guarantee,
            "commit_interval_ms": str(job.commit_interval_ms),
        }
        chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        return [sys.executable, "-m", "streamlib", "worker", topology, "--broker", f"kafka://{job.broker}", *chosen]

    def environment(self, job: Job) -> Mapping[str, str]:
        return {"BENCHMARK_ID": job.application_id}

    def decode(self, workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
        return decode_kafka(workload, key, value)
