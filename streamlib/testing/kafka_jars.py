"""Java and the jars of Apache Kafka, for a development broker: found, or fetched once by Maven into a cache.

Next: `kafka_broker`, which runs them.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from streamlib.errors import ConfigError

POM = Path(__file__).with_name("pom.xml")
OLDEST_JAVA = 17
INSTALL = "Debian and Ubuntu: apt-get install openjdk-17-jdk-headless maven"


def find_java() -> str:
    """Path of the Java to run brokers with: that of ``JAVA_HOME`` if set, else the one on ``PATH``.

    Raises:
        ConfigError: There is none, or it is older than Kafka 4 needs.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    found = shutil.which(java)
    if found is None:
        msg = f"a development broker needs Java {OLDEST_JAVA} or newer, and {java!r} was not found. {INSTALL}"
        raise ConfigError(msg)
    version = _java_version(found)
    if version < OLDEST_JAVA:
        msg = f"a development broker needs Java {OLDEST_JAVA} or newer, and {found} is Java {version}. {INSTALL}"
        raise ConfigError(msg)
    return found


def _java_version(java: str) -> int:
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if match is None:
        msg = f"cannot read the version of {java}: it says {(told.stderr + told.stdout).strip()!r}. {INSTALL}"
        raise ConfigError(msg)
    return int(match[1])


def cache_dir(pom: Path = POM) -> Path:
    """The folder of the jars that ``pom`` names, below ``$XDG_CACHE_HOME``; it need not exist yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "streamlib" / f"kafka-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def fetch_jars(pom: Path = POM) -> Path:
    """The folder with the broker's jars (about 50 MB, from Maven Central the first time).

    Processes may call it at the same time: each fetches into a folder of its own, and the first to finish names it.

    Raises:
        ConfigError: Maven is missing, or could not fetch; the message ends with its last words.
    """
    jars = cache_dir(pom)
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        msg = f"Maven is needed once, to fetch Apache Kafka into {jars}, and 'mvn' was not found. {INSTALL}"
        raise ConfigError(msg)
    jars.parent.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(prefix=f"{jars.name}-", dir=jars.parent))
    try:
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if told.returncode != 0 or not any(fetched.glob("kafka-clients-*.jar")):
            tail = "\n".join((told.stdout + told.stderr).strip().splitlines()[-15:])
            msg = f"Maven could not fetch Apache Kafka (exit code {told.returncode}); it says:\n{tail}"
            raise ConfigError(msg)
        fetched.chmod(0o755)
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(fetched, ignore_errors=True)
    return jars
