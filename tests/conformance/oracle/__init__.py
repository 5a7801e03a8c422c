"""The Java oracle: scenarios through Kafka Streams' own TopologyTestDriver. Built once by Maven into a cache."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from streamlib.testing.kafka_jars import find_java

SOURCE = Path(__file__).parent


def run(main_class: str, *arguments: str) -> str:
    """What a Java class of the oracle prints.

    Raises:
        RuntimeError: Maven is missing, or it or the oracle failed; says what they said.
    """
    build = _built()
    classpath = f"{build / 'classes'}:{build / 'libs'}/*"
    return _output([find_java(), "-XX:TieredStopAtLevel=1", "-cp", classpath, main_class, *arguments])


def _built() -> Path:
    files = sorted([*SOURCE.glob("*.java"), SOURCE / "pom.xml"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:10]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    build = home / "streamlib" / f"oracle-{digest}"
    if not (build / "complete").exists():
        maven = shutil.which("mvn")
        if maven is None:
            msg = "the oracle is built by Maven, and 'mvn' was not found. Debian: apt-get install maven"
            raise RuntimeError(msg)
        command = [maven, "-q", "-B", "-f", str(SOURCE / "pom.xml"), f"-Doracle.build={build}"]
        _output([*command, "compile", "dependency:copy-dependencies"])
        (build / "complete").touch()
    return build


def _output(command: Sequence[str]) -> str:
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        msg = f"{command[0]} failed with {told.returncode}; it says:\n{(told.stdout + told.stderr)[-3000:]}"
        raise RuntimeError(msg)
    return told.stdout
