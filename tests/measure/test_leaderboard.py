"""Rankings by accuracy and cost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.leaderboard import Entry, ranked


def entry(model: str, accuracy: float, flops: float | None, **keys: Any) -> Entry:
    keys = {"run": "a", "ci_low": accuracy, "ci_high": accuracy, **keys}
    return Entry(stage="report", model=model, accuracy=accuracy, flops_per_answer=flops, **keys)


def test_the_front_has_what_nothing_beats_in_both() -> None:
    ranking = ranked([entry("dear", 0.8, 4.0), entry("cheap", 0.5, 1.0), entry("beaten", 0.7, 5.0)])
    assert [e.model for e in ranking.entries] == ["dear", "beaten", "cheap"]
    assert list(ranking.on_front) == [True, False, True]


def test_a_model_without_flops_is_ranked_and_on_no_front() -> None:
    ranking = ranked([entry("known", 0.5, 1.0), entry("unknown", 0.9, None)])
    assert list(ranking.on_front) == [False, True]
    assert ranking.on_joules_front == [None, None]


def test_joules_of_different_sources_are_never_compared() -> None:
    measured: Any = {"joules_per_answer": 9.0, "energy_source": "rapl"}
    ranking = ranked(
        [
            entry("estimated", 0.5, 1.0, joules_per_answer=1.0, energy_source="analytic"),
            entry("worse", 0.4, 2.0, joules_per_answer=2.0, energy_source="analytic"),
            entry("measured", 0.3, 3.0, **measured),
        ]
    )
    assert ranking.on_joules_front == [True, False, True]


def test_hypervolume_of_one_entry_is_its_rectangle() -> None:
    ranking = ranked([entry("one", 0.5, 1.0), entry("two", 0.8, 2.0, run="b")])
    worst = 2.0 * 1.05
    assert ranking.hypervolume["a"] == pytest.approx((1 - 1.0 / worst) * 0.5)
    assert ranking.hypervolume["b"] == pytest.approx((1 - 2.0 / worst) * 0.8)
    assert ranking.best_hypervolume == pytest.approx(
        ((2.0 - 1.0) * 0.5 + (worst - 2.0) * 0.8) / worst
    )


def test_a_right_answer_takes_an_answers_share() -> None:
    assert entry("half", 0.5, 3.0).per_correct(3.0) == 6.0
    assert entry("never", 0.0, 3.0).per_correct(3.0) is None
    assert entry("half", 0.5, None).per_correct(None) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 10), st.one_of(st.none(), st.integers(1, 10))),
        min_size=1,
        max_size=8,
    )
)
def test_nothing_on_the_front_is_beaten(points: list[tuple[int, int | None]]) -> None:
    ranking = ranked([entry(str(i), a / 10, c) for i, (a, c) in enumerate(points)])
    known = [e for e in ranking.entries if e.flops_per_answer is not None]
    assert any(ranking.on_front) == bool(known)
    for this, on_front in zip(ranking.entries, ranking.on_front, strict=True):
        cost = this.flops_per_answer
        beaten = cost is None or any(
            (e.flops_per_answer or 0) <= cost
            and e.accuracy >= this.accuracy
            and (e.flops_per_answer, e.accuracy) != (cost, this.accuracy)
            for e in known
        )
        assert on_front is not beaten
