"""Do workers grow? Samples of each process over its life, and what is larger at its end than at its beginning.

Most workers are killed long before a leak shows, so only the long lives count. How many tasks a worker has changes all
the time, and its files, its memory and its sockets with them: only what was measured with the same number of tasks is
compared.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

WARM_UP_SECONDS = 20.0
LONG_SECONDS = 60.0
ENOUGH_SAMPLES = 5
TENTHS = 10


class Sample(NamedTuple):
    """One look at one process.

    Attributes:
        seconds: When.
        tasks: How many it had.
        rss_mb: Resident set.
        descriptors: Open files.
        lasting: Those that do not come and go with what is written: of each store engine only its lock, and none of
            its tables of rows, but all sockets and pipes.
        threads: Threads.
    """

    seconds: float
    tasks: int
    rss_mb: float
    descriptors: int
    lasting: int
    threads: int


class Growth(NamedTuple):
    """From the first to the last third of a life.

    Attributes:
        rss_percent: Of the resident set.
        descriptors: How many more of the lasting ones.
        threads: How many more.
    """

    rss_percent: float
    descriptors: float
    threads: float


def growth(life: Sequence[Sample]) -> Growth | None:
    """How much a process grew; None if it did not live long enough to tell.

    The first seconds do not count. Medians of both thirds are compared for each number of tasks that is in both; the
    more samples these have, the more the difference counts.
    """
    if not life or life[-1].seconds - life[0].seconds < LONG_SECONDS:
        return None
    begin, end = life[0].seconds + WARM_UP_SECONDS, life[-1].seconds
    third = (end - begin) / 3
    first = _by_tasks(each for each in life if begin <= each.seconds <= begin + third)
    last = _by_tasks(each for each in life if each.seconds >= end - third)
    weights = {tasks: min(len(first[tasks]), len(last[tasks])) for tasks in first.keys() & last.keys()}
    weights = {tasks: weight for tasks, weight in weights.items() if weight >= ENOUGH_SAMPLES}
    if not weights:
        return None
    rss = descriptors = threads = 0.0
    for tasks, weight in weights.items():
        before, after = _medians(first[tasks]), _medians(last[tasks])
        rss += weight * 100 * (after[0] / before[0] - 1)
        descriptors += weight * (after[1] - before[1])
        threads += weight * (after[2] - before[2])
    total = sum(weights.values())
    return Growth(round(rss / total, 1), round(descriptors / total, 1), round(threads / total, 1))


def typical(lives: Iterable[Sequence[Sample]]) -> tuple[int, Growth | None]:
    """How many lives were long enough, and the median of how much they grew, of each of its parts."""
    grown = [each for each in map(growth, lives) if each is not None]
    if not grown:
        return 0, None
    rss, descriptors, threads = (round(median(part), 1) for part in zip(*grown, strict=True))
    return len(grown), Growth(rss, descriptors, threads)


def peaks(lives: Iterable[Sequence[Sample]]) -> dict[str, list[float]]:
    """The most that any process had, in each tenth of the time."""
    samples = sorted(sample for life in lives for sample in life)
    if not samples:
        return {}
    begin, length = samples[0].seconds, (samples[-1].seconds - samples[0].seconds) / TENTHS or 1.0
    most: dict[str, list[float]] = {name: [0.0] * TENTHS for name in ("rss_mb", "descriptors", "threads")}
    for sample in samples:
        tenth = min(TENTHS - 1, int((sample.seconds - begin) / length))
        for name, held in most.items():
            held[tenth] = max(held[tenth], getattr(sample, name))
    return most


def _by_tasks(samples: Iterable[Sample]) -> Mapping[int, list[Sample]]:
    by_tasks: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_tasks[sample.tasks].append(sample)
    return by_tasks


def _medians(samples: Iterable[Sample]) -> list[float]:
    looks = list(samples)
    return [median(getattr(each, name) for each in looks) for name in ("rss_mb", "lasting", "threads")]
