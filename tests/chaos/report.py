"""What a run found, as one flat document: first what is asked of every run, then what helps to understand it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.verify import Findings
from tests.chaos.watch import Seen

EXACTLY_ONCE = "exactly_once_v2"
MUST_BE_ZERO = {
    "at_least_once": ("lost", "open_transactions", "uncommitted", "crashes"),
    EXACTLY_ONCE: (
        "lost",
        "duplicated",
        "out_of_order",
        "wrong_aggregates",
        "open_transactions",
        "uncommitted",
        "crashes",
        "replayed_again",
    ),
}


@dataclass
class Report:
    """The result of a run.

    Attributes:
        guarantee: The processing guarantee of the workers.
        seed: Of input and faults.
        workers: How many at first.
        records: Records of the left input.
        kills: SIGKILLs that hit a worker.
        stops: SIGSTOPs that hit a worker, each for longer than its session.
        terms: SIGTERMs, each with a new start.
        scales: How often a worker left for longer, or came in addition.
        lost: Records and pairs of which there is no result, over all topics.
        duplicated: Results that are there twice.
        out_of_order: Results after later ones of the same key.
        wrong_aggregates: Results that no correct run has, and rows of changelogs that differ from the last results.
        open_transactions: Partitions with records that are neither committed nor aborted, at the end.
        replayed_records: Changelog records that restoring workers read.
        replayed_again: Those among them that the same state directory already had.
        longest_stall_s: The longest time in which one input partition had records and none was committed.
        uncommitted: Input records left over when, after the faults, nothing went on any more.
        crashes: Workers that ended by themselves, or did not when they were told to.
        restores: How many changelogs were read by restoring workers.
        rss_mb: The largest resident set of a worker.
        descriptors: The most files a worker had open.
        threads: The most threads of a worker.
        drained_s: From the last fault until everything was committed.
        seconds: The whole run, with verification.
        topics: Findings in each topic.
        told: What crashed workers logged last.
    """

    guarantee: str
    seed: int
    workers: int
    records: int
    kills: int = 0
    stops: int = 0
    terms: int = 0
    scales: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    wrong_aggregates: int = 0
    open_transactions: int = 0
    replayed_records: int = 0
    replayed_again: int = 0
    longest_stall_s: float = 0.0
    uncommitted: int = 0
    crashes: int = 0
    restores: int = 0
    rss_mb: float = 0.0
    descriptors: int = 0
    threads: int = 0
    drained_s: float = 0.0
    seconds: float = 0.0
    topics: dict[str, Findings] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def failures(self) -> dict[str, int]:
        """What must be zero and is not."""
        return {name: value for name in MUST_BE_ZERO[self.guarantee] if (value := getattr(self, name))}

    def saw(self, seen: Seen) -> None:
        """Take over what was seen on the way."""
        for name, value in asdict(seen).items():
            setattr(self, name, value)

    def found(self, topics: Mapping[str, Findings]) -> None:
        """Take over what was found in the topics."""
        self.topics = dict(topics)
        total = sum(topics.values(), start=Findings())
        self.lost, self.duplicated, self.out_of_order = total.lost, total.duplicated, total.out_of_order
        self.wrong_aggregates = total.wrong

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.text() + "\n")

    def text(self) -> str:
        """It as JSON."""
        return json.dumps(asdict(self), indent=2)
