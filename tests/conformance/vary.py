"""Makes other inputs for known topologies: ``python -m tests.conformance.vary FOLDER OUT --seed 7``.

Each scenario keeps its topology and gets random steps: records as it has them, in another order, at other times, some
late. With ``python -m tests.conformance.record OUT`` Kafka Streams answers, and ``python -m tests.conformance OUT``
compares. What fails is worth a scenario of its own.
"""

import argparse
import itertools
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.__main__ import EXPECTED

STEPS = range(12, 30)


def varied(scenario: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The scenario with steps of the same kind."""
    records = [step for step in scenario["steps"] if "topic" in step]
    walls = [step for step in scenario["steps"] if "advance_wall_ms" in step]
    times = sorted(record["ts"] for record in records)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)] or [1]
    now, steps = times[0], []
    for _ in range(chance.choice(STEPS)):
        if walls and chance.random() < 0.15:
            steps.append(dict(chance.choice(walls)))
            continue
        like, other = chance.choice(records), chance.choice(records)
        record = dict(like)
        if other["topic"] == like["topic"] and chance.random() < 0.3:
            record["key"] = other["key"]
        if chance.random() < 0.6:
            now += chance.choice(gaps) + chance.choice([0, 0, 1])
        back = chance.choice([0, 0, 0, *gaps, chance.choice(gaps) + chance.choice(gaps)])
        record["ts"] = max(0, now - back)
        steps.append(record)
    return {**scenario, "steps": steps}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a variation of every scenario of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.vary", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios whose names contain this")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(options.folder.glob("*.json")):
        scenario = json.loads(path.read_text()) if options.only in path.stem else {"expect_error": True}
        if path.name.endswith(EXPECTED) or scenario.get("expect_error"):
            continue
        name = f"{path.stem}-{options.seed}"
        chance = random.Random(f"{name}")
        (options.out / f"{name}.json").write_text(json.dumps({**varied(scenario, chance), "name": name}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
