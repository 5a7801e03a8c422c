"""Virtual environments for the Python peers: dependencies do not meet ours, and versions stay as first installed."""

import hashlib
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def make_venv(cache: Path, name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these requirements, made the first time.

    Raises:
        RuntimeError: pip could not install them; the message ends with its last words.
    """
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:10]
    folder = cache / f"{name}-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    print(f"installing {' '.join(requirements)} into {folder}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    told = subprocess.run(pip, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        msg = f"pip could not install {requirements}: {told.stderr[-2000:]}"
        raise RuntimeError(msg)
    complete.touch()
    return python


def installed_versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages in an environment."""
    program = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
    told = subprocess.run([str(python), "-c", program, *packages], capture_output=True, text=True, check=True)
    return dict(json.loads(told.stdout))
