"""Kafka Streams, built from `peers/kafka_streams` and run by the Java on this machine."""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.systems.base import ALL_WORKLOADS, EXACTLY_ONCE_WORKLOADS, Job
from streamlib.testing.kafka_jars import find_java

SOURCE = Path(__file__).parents[1] / "peers" / "kafka_streams"


class KafkaStreams:
    """One stream thread in a JVM of 1 GB heap with its default JIT and collector."""

    name = "kafka-streams"
    workloads = (*ALL_WORKLOADS, *EXACTLY_ONCE_WORKLOADS)
    note = "one stream thread, -Xmx1g, max.poll.records 10,000, batch.size 1 MiB, JSON by Jackson with Blackbird"

    def __init__(self) -> None:
        self._build = Path()

    def prepare(self, cache: Path) -> Mapping[str, str]:
        files = sorted(path for path in SOURCE.rglob("*") if path.is_file())
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:10]
        self._build = cache / f"kafka-streams-{digest}"
        if not (self._build / "complete").exists():
            self._compile()
        jar = next((self._build / "libs").glob("kafka-streams-*.jar"))
        told = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=True)
        return {"kafka-streams": jar.stem.removeprefix("kafka-streams-"), "java": told.stderr.splitlines()[0]}

    def _compile(self) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            msg = "the Kafka Streams peer is built by Maven, and 'mvn' was not found. Debian: apt-get install maven"
            raise RuntimeError(msg)
        print(f"building the Kafka Streams peer into {self._build}", flush=True)
        command = [maven, "-q", "-B", "-f", str(SOURCE / "pom.xml"), f"-Dbench.build={self._build}"]
        told = subprocess.run(
            [*command, "compile", "dependency:copy-dependencies"], capture_output=True, text=True, check=False
        )
        if told.returncode != 0:
            msg = f"Maven could not build the Kafka Streams peer; it says:\n{told.stdout[-3000:]}"
            raise RuntimeError(msg)
        (self._build / "complete").touch()

    def command(self, job: Job) -> list[str]:
        classpath = f"{self._build / 'classes'}:{self._build / 'libs'}/*"
        logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [find_java(), "-Xms1g", "-Xmx1g", logging, "-cp", classpath, "bench.Main", *job.arguments()]

    def environment(self, job: Job) -> Mapping[str, str]:
        return {"TMPDIR": str(job.folder)}

    def decode(self, workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
        return decode_kafka(workload, key, value)


def decode_kafka(workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
    """Output written by Kafka's own serdes: long values, window keys that end with the start, session keys likewise."""
    if workload == "window":
        return (key[:-8].decode(), int.from_bytes(key[-8:])), int.from_bytes(value)
    if workload == "session":
        return (key[:-16].decode(), int.from_bytes(key[-8:]), int.from_bytes(key[-16:-8])), int.from_bytes(value)
    if workload in ("count", "repartition"):
        return key.decode(), int.from_bytes(value)
    return key.decode(), msgspec.json.decode(value)
