"""What of a plan lasts beyond a process, as `to_json` writes it: names and kinds of stores, topics, sub-topologies.

Next: `difference`, which compares two.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = 1
"""Of the JSON; a reader refuses other ones."""


@dataclass(frozen=True)
class StoreOutline:
    """A store.

    Attributes:
        stored: What its rows are made of: kind, serdes, size of windows. Rows of another kind cannot be read.
        logged: Whether it has a changelog of its own.
        source_topic: The topic that is its changelog instead.
        subtopology: The number of the sub-topology it belongs to; None when none uses it.
    """

    stored: Mapping[str, Any]
    logged: bool
    source_topic: str | None
    subtopology: int | None


@dataclass(frozen=True)
class Outline:
    """A plan.

    Attributes:
        stores: By name.
        repartition_topics: Partitions that were asked for, by name without the application id.
        subtopologies: The topics that each sub-topology reads, by its number; those with tasks only.
    """

    stores: Mapping[str, StoreOutline]
    repartition_topics: Mapping[str, int | None]
    subtopologies: Mapping[int, frozenset[str]]


STORED = ("kind", "key_serde", "value_serde", "window_size_ms", "timestamped", "retain_duplicates")


def read_outline(text: str) -> Outline:
    """The outline in the JSON of a plan.

    Raises:
        ValueError: It is no such JSON, or of another version of streamlib.
    """
    try:
        plan = json.loads(text)
        if plan.get("format") != FORMAT:
            msg = f"its format is {plan.get('format')}, this version of streamlib reads {FORMAT}: write it again"
            raise ValueError(msg)
        parts = plan["subtopologies"]
        of_store = {store: part["number"] for part in parts for store in part["stores"]}
        return Outline(
            {entry["name"]: _store(entry, of_store.get(entry["name"])) for entry in plan["stores"]},
            {entry["name"]: entry["partitions"] for entry in plan["repartition_topics"]},
            {part["number"]: frozenset(part["source_topics"]) for part in parts if not part["is_global"]},
        )
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"it is not what streamlib topology --json writes ({type(error).__name__}: {error})"
        raise ValueError(msg) from error


def _store(entry: Mapping[str, Any], subtopology: int | None) -> StoreOutline:
    return StoreOutline({name: entry[name] for name in STORED}, entry["logging"], entry["source_topic"], subtopology)
