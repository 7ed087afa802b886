"""`stepwell plan RECIPE --simulate` from outside."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.cli.app import main
from tests.plan.test_simulation import COSTS


def test_sizes_follow_the_option_and_costs_can_be_measured_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(asdict(COSTS)))
    command = ["plan", "r1-zero", "--simulate", "8", "16", "seed=3", "--costs", str(file), "--json"]
    assert main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["gpus"] for row in document["simulation"]] == [8, 8, 16, 16]
    assert document["costs"]["zero"]["source"] == "a test"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["r1-zero", "--simulate", "many"], "write numbers of GPUs"),
        (["r1-zero", "--simulate", "0"], "write numbers of GPUs"),
        (["r1-zero", "--simulate", "1"], "need 2 GPUs"),
        (["r1-zero", "--mtbf-hours", "3"], "add --simulate"),
        (["r1-zero", "--simulate", "8", "--costs", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
