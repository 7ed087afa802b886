"""The journal's round trip is exact, and a half-written step does not exist."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.generate.curriculum import Counts
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.records import Rollout, Scored


def step(offset: float) -> StepRollouts:
    groups = [
        Group(
            prompt_id=f"p{g}",
            samples=tuple(
                Scored(
                    rollout=Rollout(
                        prompt_id=f"p{g}",
                        sample=i,
                        seed=2**62 + i,
                        prompt_tokens=(1, 2),
                        tokens=(3, 4, 5),
                        logprobs=(-0.1 - offset, -1e-17, -3.3333333333333335),
                        stop="eos",
                        weight_version=4,
                        depths=(1, 2, 3) if i else None,
                    ),
                    text="a\nb",
                    reward=None if i else 0.5,
                    components={"answer": None if i else 0.5},
                    verdicts={"answer": "correct"},
                )
                for i in range(2)
            ),
        )
        for g in range(3)
    ]
    return StepRollouts(groups=groups, metrics={"reward": 0.1 + offset})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(7, step(0.25))
    assert journal.read(7) == step(0.25)
    assert journal.read(8) is None


def test_a_half_written_step_is_absent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / ".step-000001.99").write_bytes(b"PAR1 half")
    assert journal.read(1) is None


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_step_is_set_aside(
    cut: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path)
    journal.write(1, step(0.25))
    content = bytearray(journal.path(1).read_bytes())
    content[len(content) // 2] ^= 1
    journal.path(1).write_bytes(content[:-9] if cut else content)
    assert journal.read(1) is None
    assert "step-000001.parquet differs from its checksum" in capsys.readouterr().out
    assert (tmp_path / "step-000001.parquet.old-1").exists()
    journal.write(1, step(0.25))
    assert journal.read(1) == step(0.25)


def test_an_older_journal_without_checksums_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(1, step(0.25))
    (tmp_path / "step-000001.sha256").unlink()
    assert journal.read(1) == step(0.25)


def test_pass_rates_are_read_without_rollouts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    counts = {"p0": Counts(3, 8), "p1": Counts(0, 4)}
    journal.write(2, replace(step(0.25), passes=counts))
    assert journal.passes(2) == counts
    assert journal.passes(3) is None


def test_steps_and_damages_are_told_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "none")
    assert journal.steps() == []
    assert journal.damaged() == {}
    journal = Journal(tmp_path)
    for number in (10, 2, 1_000_000):
        journal.write(number, step(0.25))
    (tmp_path / "step-000003.parquet.old-1").write_text("")
    (tmp_path / ".step-000004.parquet.99").write_text("")
    assert journal.steps() == [2, 10, 1_000_000]
    for number in (10, 2):
        journal.path(number).write_text("x")
    assert list(journal.damaged()) == [2, 10]
