"""What is made of the outcomes: medians over rounds, ratios to each peer, a table, a JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Outcome

REFERENCE = "streamlib"


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row for each workload and system, in the order they were first run: medians over the rounds."""
    grouped: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault((outcome.workload, outcome.system), []).append(outcome)
    return [
        {
            "workload": workload,
            "system": system,
            "records_per_s": round(median(one.records_per_s for one in group)),
            "records_per_cpu_s": round(median(one.records_per_cpu_s for one in group)),
            "peak_rss_bytes": round(median(one.peak_rss_bytes for one in group)),
            "verified": all(one.verified for one in group),
            "rounds": [_round_figures(one) for one in group],
        }
        for (workload, system), group in sorted(grouped.items(), key=lambda item: _workload_order(outcomes, item[0][0]))
    ]


def _workload_order(outcomes: Sequence[Outcome], workload: str) -> int:
    return next(number for number, outcome in enumerate(outcomes) if outcome.workload == workload)


def _round_figures(outcome: Outcome) -> dict[str, Any]:
    figures = asdict(outcome)
    for name in ("workload", "system"):
        del figures[name]
    return {**figures, "records_per_s": outcome.records_per_s, "records_per_cpu_s": outcome.records_per_cpu_s}


def ratios(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """How many times as fast streamlib is as each other system, and how many times as much memory it takes.

    Computed within each round, so that both sides met the same state of the machine; then the median.
    """
    by_round = {(one.workload, one.system, one.round): one for one in outcomes}
    pairs: dict[tuple[str, str], list[tuple[Outcome, Outcome]]] = {}
    for (workload, system, number), peer in by_round.items():
        ours = by_round.get((workload, REFERENCE, number))
        if system != REFERENCE and ours is not None:
            pairs.setdefault((workload, system), []).append((ours, peer))
    return [
        {
            "workload": workload,
            "peer": peer,
            "records_per_s": median(ours.records_per_s / theirs.records_per_s for ours, theirs in group),
            "records_per_cpu_s": median(ours.records_per_cpu_s / theirs.records_per_cpu_s for ours, theirs in group),
            "peak_rss": median(ours.peak_rss_bytes / theirs.peak_rss_bytes for ours, theirs in group),
        }
        for (workload, peer), group in pairs.items()
    ]


def write_json(path: Path, outcomes: Sequence[Outcome], failures: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Everything that is known so far, written whole each time."""
    document = {"rows": rows(outcomes), "ratios": ratios(outcomes), "failures": list(failures), **facts}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def table(outcomes: Sequence[Outcome]) -> str:
    """The rows as a Markdown table; the last columns say how streamlib compares with that row's system."""
    compared = {(ratio["workload"], ratio["peer"]): ratio for ratio in ratios(outcomes)}
    lines = [
        "| workload | system | records/s | records/CPU s | peak RSS MB | verified | streamlib is | per CPU s |",
        "|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows(outcomes):
        ratio = compared.get((row["workload"], row["system"]))
        times = [f"{ratio[name]:.2f} x" for name in ("records_per_s", "records_per_cpu_s")] if ratio else ["", ""]
        cells = [
            row["workload"],
            row["system"],
            f"{row['records_per_s']:,}",
            f"{row['records_per_cpu_s']:,}",
            f"{row['peak_rss_bytes'] / 1e6:,.0f}",
            "yes" if row["verified"] else "NO",
            *times,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def line(outcome: Outcome) -> str:
    """One outcome, as it comes."""
    verdict = "verified" if outcome.verified else f"WRONG RESULTS: {outcome.detail}"
    return (
        f"round {outcome.round} {outcome.workload:<15} {outcome.system:<14} {outcome.records_per_s:>10,.0f} records/s "
        f"{outcome.records_per_cpu_s:>10,.0f} /CPU s {outcome.peak_rss_bytes / 1e6:>6,.0f} MB "
        f"({outcome.records:,} in {outcome.seconds:.2f} s, drained after {outcome.drained_s:.2f} s) {verdict}"
    )
