"""Java programs of the tests, built once by Maven into a cache."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from streamlib.testing.kafka_jars import find_java


def java(source: Path, main_class: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command that runs a class of the folder ``source``, which holds a ``pom.xml`` and its Java files.

    Raises:
        RuntimeError: Maven is missing, or it failed; says what it said.
    """
    build = _built(source)
    return [find_java(), *options, "-cp", f"{build / 'classes'}:{build / 'libs'}/*", main_class, *arguments]


def output(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        RuntimeError: It failed; says what it said.
    """
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        msg = f"{command[0]} failed with {told.returncode}; it says:\n{(told.stdout + told.stderr)[-3000:]}"
        raise RuntimeError(msg)
    return told.stdout


def _built(source: Path) -> Path:
    files = sorted([*source.glob("*.java"), source / "pom.xml"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:10]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    build = home / "streamlib" / f"{source.name}-{digest}"
    if not (build / "complete").exists():
        maven = shutil.which("mvn")
        if maven is None:
            msg = f"{source} is built by Maven, and 'mvn' was not found. Debian: apt-get install maven"
            raise RuntimeError(msg)
        command = [maven, "-q", "-B", "-f", str(source / "pom.xml"), f"-Dtests.build={build}"]
        output([*command, "compile", "dependency:copy-dependencies"])
        (build / "complete").touch()
    return build
