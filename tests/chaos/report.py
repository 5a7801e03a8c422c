"""What a run found, as one flat document: first what is asked of every run, then what helps to understand it."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.chaos.checks import Findings
from tests.chaos.watch import Seen

EXACTLY_ONCE = "exactly_once_v2"
ALWAYS_ZERO = ("lost", "open_transactions", "uncommitted", "crashes", "dropped")
MUST_BE_ZERO = {
    "at_least_once": ALWAYS_ZERO,
    EXACTLY_ONCE: (
        *ALWAYS_ZERO,
        "duplicated",
        "out_of_order",
        "wrong_aggregates",
        "owners_mixed",
        "replayed_again",
    ),
}
AT_MOST = {
    "drained_s": 60.0,
    "rss_growth_percent": 50.0,
    "descriptors_growth": 10.0,
    "threads_growth": 4.0,
}
"""Growth is that of workers that live on while others are killed, so of one rebalance every two seconds or so: in the
five minutes for which each is spared in a long run, what every one of them leaves behind makes more than fifty. Tasks
that stayed in memory after they had gone doubled the resident set; without them it grew by 7 %."""


def machine(broker: str) -> dict[str, str | int]:
    """What helps to understand figures; nothing that tells whose machine it is.

    Args:
        broker: Its version.
    """
    return {
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "streamlib": version("streamlib"),
        "aiokafka": version("aiokafka"),
        "broker": broker,
        "system": f"{platform.system()} {platform.machine()}",
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
        owners_mixed: How often somebody committed work of a task after others had committed work of it as its owners.
        open_transactions: Partitions with records that are neither committed nor aborted, at the end.
        replayed_records: Changelog records that restoring workers read.
        replayed_again: Those among them that the same state directory already had when it was last complete.
        longest_stall_s: The longest time in which one input partition had records and none was committed.
        uncommitted: Input records left over when, after the faults, nothing went on any more.
        crashes: Workers that ended by themselves, or did not when they were told to.
        restores: How many changelogs were read by restoring workers.
        dropped: Records that workers say they have left out, as dropped or as dead letters.
        dropped_by: The same by counter and labels.
        counters_answers: How often workers were asked for that, and answered.
        rss_mb: The largest resident set of a worker.
        descriptors: The most files a worker had open.
        threads: The most threads of a worker.
        long_lives: Workers that lived long enough to see whether they grow.
        rss_growth_percent: The median of how much their resident set grew; None without such workers.
        descriptors_growth: The same of open files, of each store engine only one.
        threads_growth: The same of threads.
        peaks: The most of each that any worker had, for each tenth of the run.
        drained_s: From the last fault, and the last record of the input, until everything was committed.
        seconds: The whole run, with verification.
        verify_s: The verification.
        limits: How large what is limited may be.
        machine: Where it ran, and what.
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
    owners_mixed: int = 0
    open_transactions: int = 0
    replayed_records: int = 0
    replayed_again: int = 0
    longest_stall_s: float = 0.0
    uncommitted: int = 0
    crashes: int = 0
    restores: int = 0
    dropped: int = 0
    dropped_by: dict[str, int] = field(default_factory=dict)
    counters_answers: int = 0
    rss_mb: float = 0.0
    descriptors: int = 0
    threads: int = 0
    long_lives: int = 0
    rss_growth_percent: float | None = None
    descriptors_growth: float | None = None
    threads_growth: float | None = None
    peaks: dict[str, list[float]] = field(default_factory=dict)
    drained_s: float = 0.0
    seconds: float = 0.0
    verify_s: float = 0.0
    limits: dict[str, float] = field(default_factory=dict)
    machine: dict[str, str | int] = field(default_factory=dict)
    topics: dict[str, Findings] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limits = dict.fromkeys(MUST_BE_ZERO[self.guarantee], 0) | AT_MOST | self.limits

    @property
    def failures(self) -> dict[str, float]:
        """What is larger than it may be."""
        values = {name: getattr(self, name) for name in self.limits}
        return {name: value for name, value in values.items() if value is not None and value > self.limits[name]}

    def saw(self, seen: Seen) -> None:
        """Take over what was seen on the way."""
        for name, value in asdict(seen).items():
            setattr(self, name, value)

    def found(self, topics: Mapping[str, Findings]) -> None:
        """Take over what was found in the topics."""
        self.topics = dict(topics)
        total = sum(topics.values(), start=Findings())
        self.lost, self.duplicated, self.out_of_order = total.lost, total.duplicated, total.out_of_order
        self.wrong_aggregates, self.owners_mixed = total.wrong, total.mixed

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.text() + "\n")

    def text(self) -> str:
        """It as JSON."""
        return json.dumps(asdict(self), indent=2)
