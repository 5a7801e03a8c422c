"""Makes random scenarios: ``python -m tests.conformance.generate OUT --seed 7 --count 40``.

All operations that scenarios know, combined in unusual ways. With ``python -m tests.conformance.record OUT`` Kafka
Streams answers; a scenario that it refuses is reported as ``BROKEN`` and has no answer. ``python -m tests.conformance
OUT`` compares the others. What fails is worth a scenario of its own.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.random_expressions import Values
from tests.conformance.random_topology import FAMILIES, RandomTopology

BAD_BYTES = ("01", "7b", "ff")
CACHE = 10_000_000


def scenario(seed: int, number: int, only: str | None) -> dict[str, Any]:
    """One scenario, the same for the same arguments."""
    name = f"{only or 'random'}-{seed}-{number:04}"
    chance = random.Random(name)
    config = _config(chance)
    failing = 0.25 if config.get("processing_handler") == "continue" else 0.0
    values = Values(chance, few=chance.choice([1, 2, 3, 5]))
    scale = chance.choice([1, 1, 1, 1, 1000, 20_000])
    topology = RandomTopology(chance, values, scale=scale, only=only, failing=failing)
    steps = _steps(chance, values, topology, bad=config.get("deserialization_handler") == "continue")
    made = {"name": name, "description": f"random operations, seed {seed}", "topology": topology.ops, "steps": steps}
    return made | ({"config": config} if config else {})


def _config(chance: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if chance.random() < 0.35:
        config["statestore.cache.max.bytes"] = CACHE
    if chance.random() < 0.15:
        config["stores"] = "in_memory"
    if chance.random() < 0.2:
        config["topology.optimization"] = "all"
    if chance.random() < 0.12:
        config["processing_handler"] = "continue"
    if chance.random() < 0.12:
        config["deserialization_handler"] = "continue"
    return config


def _steps(chance: random.Random, values: Values, topology: RandomTopology, *, bad: bool) -> list[dict[str, Any]]:
    """Records for all source topics, at times late or equal, and steps of the wall clock."""
    spans, topics = sorted(topology.times), list(topology.sources)
    scale = spans[0] or spans[-1]
    now = chance.choice([0, 0, 3, 100]) * scale
    null_keys, null_values = chance.choice([0.0, 0.05, 0.15]), chance.choice([0.0, 0.1, 0.3])
    headers = chance.random() < 0.4
    steps: list[dict[str, Any]] = []
    for _ in range(chance.randint(15, 45)):
        if chance.random() < 0.04:
            steps.append({"advance_wall_ms": chance.choice(spans) + chance.randint(0, 2)})
            continue
        if chance.random() < 0.6:
            now += chance.choice([scale, scale, 2 * scale, *spans]) + chance.choice([0, 0, 0, 1])
        late = chance.choice([0, 0, 0, 0, scale, *spans, 2 * chance.choice(spans)])
        topic = chance.choice(topics)
        key, value = topology.sources[topic]
        step: dict[str, Any] = {"topic": topic, "key": values.key(key, null_keys)}
        if bad and value != "string" and chance.random() < 0.1:
            step["value_hex"] = chance.choice(BAD_BYTES)
        else:
            step["value"] = values.value(value, null_values)
        step["ts"] = max(0, now - late)
        if headers and chance.random() < 0.5:
            step["headers"] = [
                [chance.choice("hgk"), chance.choice(["1", "ü", None])] for _ in range(chance.randint(1, 2))
            ]
        steps.append(step)
    return steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the scenarios; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.generate", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--only", default=None, choices=sorted(FAMILIES), help="mostly operations of this family")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        made = scenario(options.seed, number, options.only)
        text = json.dumps(made, indent=1, ensure_ascii=False)
        (options.out / f"{made['name']}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
