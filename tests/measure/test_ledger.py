"""A step's seconds by phase: they add up, whatever the order of phases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.ledger import (
    PHASES,
    PREFIX,
    PhaseClock,
    divided,
    ledger_line,
    phase_totals,
    speed_text,
)


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.floats(0, 100)), max_size=20))
def test_phases_add_up_to_the_wall_time(visits: list[tuple[str, float]]) -> None:
    now = 0.0
    clock = PhaseClock(clock=lambda: now)
    for phase, seconds in visits:
        clock.enter(phase)  # pyright: ignore[reportArgumentType]
        now += seconds
    row = clock.take()
    assert row["step_seconds"] == pytest.approx(now)
    assert sum(row[PREFIX + phase] for phase in PHASES) == row["step_seconds"]
    assert clock.take()["step_seconds"] == 0.0


def test_a_phase_inside_another_gives_it_back() -> None:
    now = 0.0
    clock = PhaseClock(clock=lambda: now)
    clock.enter("training")
    now += 1
    with clock.during("generation"):
        now += 5
    clock.divide("generation", {"evaluation": 1.0, "generation": 2.0, "verification": 0.5})
    now += 2
    row = clock.take()
    assert {phase: row[PREFIX + phase] for phase in PHASES if row[PREFIX + phase]} == {
        "training": 3.0,
        "evaluation": 1.0,
        "generation": 2.0,
        "verification": 0.5,
        "idle": 1.5,
    }


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0, 50))
def test_a_wait_is_divided_whole(wait: float, generation: float, verification: float) -> None:
    shares = divided(wait, {"generation": generation, "verification": verification})
    assert sum(shares.values()) == pytest.approx(wait)
    assert all(share >= 0 for share in shares.values())


def test_a_line_names_the_largest_phase_first_and_leaves_out_nothing_spent() -> None:
    row = {"seconds/sync": 0.2, "seconds/training": 2.0, "seconds/idle": 0.0}
    assert ledger_line(row) == "training 2.0, sync 0.2"
    assert ledger_line({"loss": 1.0}) == ""


def test_a_stages_phases_add_up_to_its_seconds() -> None:
    rows = [{"seconds/training": 2.0, "seconds/generation": 3.0}, {"seconds/training": 1.0}]
    assert phase_totals(rows, seconds=10.0) == {"training": 3.0, "generation": 3.0, "idle": 4.0}
    assert phase_totals(rows, seconds=0.0) == {"training": 3.0, "generation": 3.0, "idle": 0.0}
    assert phase_totals([{"loss": 1.0}], seconds=10.0) == {}


def test_the_speed_is_told_with_and_without_a_machines() -> None:
    row = {"training_gflops_per_s": 1234.5}
    assert speed_text(row) == "1,234.5 GFLOP/s"
    assert speed_text(row | {"matmul_share": 0.614}) == "1,234.5 GFLOP/s, 61% of matmul"
    assert speed_text({"loss": 1.0}) == ""
