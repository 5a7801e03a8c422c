"""The results in the project are what Kafka Streams gives today, and the commands around them work."""

import json
import random
from pathlib import Path

import pytest

from tests.conformance import __main__ as judge
from tests.conformance import record, vary
from tests.conformance.test_names import FOLDER, SCENARIOS

NAMES = ["agg-count", "window-tumbling-count-grace"]


@pytest.mark.slow
def test_results_are_those_in_the_project_when_kafka_streams_is_asked_again(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.json").write_text((FOLDER / f"{name}.json").read_text())
    assert record.main([str(tmp_path)]) == 0
    for name in NAMES:
        written = f"{name}.expected.json"
        assert json.loads((tmp_path / written).read_text()) == json.loads((FOLDER / written).read_text())


def test_a_folder_passes_when_all_its_scenarios_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        for file in (f"{name}.json", f"{name}.expected.json"):
            (tmp_path / file).write_text((FOLDER / file).read_text())
    assert judge.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == "2 passed, 0 failed\n"
    assert judge.main([str(tmp_path), "--on-disk"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{name}.expected.json" for name in NAMES}


def test_the_first_difference_is_named_when_a_scenario_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = json.loads((FOLDER / "agg-count.expected.json").read_text())
    expected["outputs"][3]["ts"] += 1
    (tmp_path / "agg-count.json").write_text((FOLDER / "agg-count.json").read_text())
    (tmp_path / "agg-count.expected.json").write_text(json.dumps(expected))
    assert judge.main([str(tmp_path)]) == 1
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith("agg-count: outputs[")
    assert f"expected {expected['outputs'][3]['ts']}, got {expected['outputs'][3]['ts'] - 1}" in line
    assert last == "0 passed, 1 failed"


def test_an_empty_folder_is_an_error_when_it_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge.main([str(tmp_path)]) == 2
    assert "holds no scenario" in capsys.readouterr().err


def test_variations_are_the_same_when_their_seed_is() -> None:
    scenario = SCENARIOS["agg-count"]
    first, second, other = (vary.varied(scenario, random.Random(seed)) for seed in (1, 1, 2))
    assert first == second != other
    assert first["topology"] == scenario["topology"]
