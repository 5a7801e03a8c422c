"""What must not be larger than its limit is found when it is; what a page of metrics and samples of processes say."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from streamlib.metrics import Metrics
from streamlib.web.prometheus import exposition
from tests.chaos.checks import Findings
from tests.chaos.counters import left_out
from tests.chaos.growth import Growth, Sample, growth, peaks, typical
from tests.chaos.report import EXACTLY_ONCE, Report, machine
from tests.chaos.run import Options
from tests.chaos.watch import measured


def report(**found: float) -> Report:
    made = Report(EXACTLY_ONCE, seed=1, workers=3, records=10)
    for name, value in found.items():
        setattr(made, name, value)
    return made


def life(seconds: int, descriptors: float = 0.0, rss_mb: float = 0.0, threads: float = 0.0) -> list[Sample]:
    """A process with 3 and 6 tasks in turn, whose files and memory depend on that, and which leaks so much a second."""
    samples = []
    for second in range(seconds):
        tasks = 3 + second // 7 % 2 * 3
        rss = 100.0 + 5 * tasks + rss_mb * second
        samples.append(
            Sample(second, tasks, rss, 500 + second, 20 + tasks + int(descriptors * second), 9 + int(threads * second))
        )
    return samples


def test_nothing_fails_when_everything_is_zero() -> None:
    assert report().failures == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("owners_mixed", 1),
        ("dropped", 1),
        ("replayed_again", 1),
        ("drained_s", 60.5),
        ("rss_growth_percent", 51.0),
        ("descriptors_growth", 11.0),
        ("threads_growth", 5.0),
    ],
)
def test_run_fails_when_a_value_is_beyond_its_limit(name: str, value: float) -> None:
    assert report(**{name: value}).failures == {name: value}


def test_only_loss_fails_when_the_guarantee_is_at_least_once() -> None:
    spoiled = Report("at_least_once", seed=1, workers=3, records=10)
    spoiled.found({"ticks": Findings(lost=1, duplicated=1, out_of_order=1, wrong=1, mixed=1)})
    assert spoiled.owners_mixed == 1
    assert spoiled.failures == {"lost": 1}


def test_stall_fails_only_when_a_limit_was_given() -> None:
    assert report(longest_stall_s=20.0).failures == {}
    strict = Report(EXACTLY_ONCE, 1, 3, 10, longest_stall_s=20.0, limits=Options(max_stall=15.0).limits)
    assert strict.failures == {"longest_stall_s": 20.0}


def test_report_is_json_with_the_machine_and_without_its_name(tmp_path: Path) -> None:
    made = report()
    made.machine = machine("4.3.1")
    made.write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == asdict(made)
    assert made.machine.keys() == {"cores", "python", "streamlib", "aiokafka", "broker", "system"}


def test_left_out_records_are_read_from_a_workers_page() -> None:
    metrics = Metrics()
    metrics.count("records_processed_total", 500)
    metrics.count("dropped_records_total", 0, node="sums", reason="late")
    assert left_out(exposition(metrics)) == {}
    metrics.dropped("counts", "null-key", 3)
    metrics.count("dead_letters_total", 2, node="source", topic="bad", reason="deserialization-error")
    assert sorted(left_out(exposition(metrics)).values()) == [2, 3]


def test_worker_does_not_grow_when_only_its_tasks_change() -> None:
    assert growth(life(300)) == Growth(0.0, 0.0, 0.0)


def test_leaks_are_found_when_a_worker_lives_on() -> None:
    found = growth(life(300, descriptors=0.5, rss_mb=0.5, threads=0.05))
    assert found is not None
    assert found.descriptors == pytest.approx(0.5 * 187, abs=4)
    assert found.rss_percent > 50
    assert found.threads == pytest.approx(9, abs=1)
    assert report(descriptors_growth=found.descriptors).failures != {}


def test_growth_is_unknown_when_nobody_lives_long() -> None:
    assert growth(life(50, descriptors=5)) is None
    assert growth([]) is None
    assert typical([life(50)]) == (0, None)


def test_typical_growth_is_that_of_most_workers() -> None:
    assert typical([life(300), life(300), life(300, descriptors=1), life(9)]) == (3, Growth(0.0, 0.0, 0.0))


def test_peaks_are_those_of_all_workers_in_each_tenth() -> None:
    one, two = ([Sample(second, 1, 100.0 + second, 7, 5, 3) for second in part] for part in (range(50), range(50, 101)))
    assert peaks([one, two])["rss_mb"] == [109.0, 119.0, 129.0, 139.0, 149.0, 159.0, 169.0, 179.0, 189.0, 200.0]
    assert peaks([]) == {}


def test_slots_are_spared_only_when_the_run_is_long() -> None:
    assert Options(kills=50, stops=10).turns == 0
    assert Options(kills=1_000, stops=200).turns == 8
    assert Options(minutes=60, spare_minutes=0).turns == 0


def test_only_the_lock_of_a_store_engine_counts_as_lasting(tmp_path: Path) -> None:
    before = measured(os.getpid(), 2, tmp_path)
    with (tmp_path / "LOCK").open("w"), (tmp_path / "000007.sst").open("w"):
        after = measured(os.getpid(), 2, tmp_path)
    assert before is not None
    assert after is not None
    assert (after.descriptors - before.descriptors, after.lasting - before.lasting) == (2, 1)
