"""Seconds of a stage's work, against what the parts are."""

from dataclasses import replace

import pytest

from pipeline.plan.speeds import SPEEDS, Load, seconds_of, speed_of
from pipeline.recipe.hardware import Hardware

LOAD = Load(
    generated_tokens=1e5,
    trained_tokens=1e5,
    generate_flops=9e12,
    score_flops=1e12,
    train_flops=3e12,
    synced_bytes=6e8,
)
TWO = Hardware(threads_per_rank=2, threads_per_engine=2)


def test_each_part_is_its_flops_over_its_rate() -> None:
    speed = SPEEDS["cpu"]
    found = seconds_of(LOAD, TWO, speed=speed, device="cpu", overlaps=False)
    assert found.generating == pytest.approx(9e12 / (2 * 75e9 * 0.6))
    assert found.training == pytest.approx(3e12 / (2 * 75e9 * 0.5))
    assert found.scoring == pytest.approx(1e12 / (2 * 75e9 * 0.5))
    assert found.syncing == pytest.approx(6e8 / 1.4e9)
    parts = found.generating + found.training + found.scoring + found.syncing + found.starting
    assert found.total == pytest.approx(parts)


def test_overlap_hides_the_shorter() -> None:
    speed = SPEEDS["cpu"]
    turns, ahead = (
        seconds_of(LOAD, TWO, speed=speed, device="cpu", overlaps=overlaps)
        for overlaps in (False, True)
    )
    hidden = min(turns.training, turns.generating + turns.scoring)
    assert turns.total - ahead.total == pytest.approx(hidden)


def test_a_measured_speed_scales_the_assumed_one() -> None:
    assert speed_of("cpu", matmul_gflops=150.0).train_flops_per_s == pytest.approx(150e9 * 0.5)
    assert speed_of("cuda", matmul_gflops=150.0) == SPEEDS["cuda"]


def test_smollm2s_measured_rates_are_within_a_quarter() -> None:
    """350 tokens/s of 64 sequences, 419 where its vocabulary is pruned, on two threads."""
    for parameters, measured in ((134.5e6, 350), (109e6, 419)):
        load = replace(LOAD, generated_tokens=1e4, generate_flops=1e4 * 2 * parameters)
        found = seconds_of(load, TWO, speed=SPEEDS["cpu"], device="cpu", overlaps=False)
        assert 1e4 / found.generating == pytest.approx(measured, rel=0.25)


def test_what_does_nothing_takes_no_time() -> None:
    nothing = Load(
        generated_tokens=0, trained_tokens=0, generate_flops=0, score_flops=0, train_flops=0
    )
    found = seconds_of(nothing, TWO, speed=SPEEDS["cpu"], device="cpu", overlaps=False)
    assert found.total == 0
