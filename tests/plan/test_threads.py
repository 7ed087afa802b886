"""Threads that a recipe leaves to us: all cores in turns, half of them each where both work."""

from typing import Any

import pytest

from pipeline.plan.plan import make_plan
from pipeline.plan.threads import MOST_CORES, other_cores, usable_cores, with_threads
from tests.plan.plans import GRPO, fingerprint, recipe_with


def threads(cores: int, *, device: str = "cpu", ahead: int = 0, **hardware: Any) -> tuple[int, int]:
    recipe = recipe_with({"a": {**GRPO, "ahead": ahead}}, hardware=hardware)
    resolved = with_threads(recipe, device=device, cores=cores).hardware
    return resolved.rank_threads, resolved.engine_threads


def test_each_has_all_cores_in_its_turn() -> None:
    assert threads(2) == (2, 2)
    assert threads(1) == (1, 1)
    assert threads(6, ranks=2, engines=3) == (3, 2)
    assert threads(2, ranks=4) == (1, 2)
    assert threads(96) == (MOST_CORES, MOST_CORES)


def test_both_have_half_of_them_where_both_work() -> None:
    assert threads(2, ahead=1) == (1, 1)
    assert threads(5, ahead=1) == (3, 2)
    assert threads(1, ahead=1) == (1, 1)
    assert threads(8, ahead=1, engines=2) == (4, 2)


def test_what_a_recipe_says_stays() -> None:
    assert threads(2, threads_per_rank=4) == (4, 2)
    assert threads(8, threads_per_engine=1, ahead=1) == (4, 1)


def test_gpus_and_clusters_are_not_counted_by_the_cores_here() -> None:
    assert threads(64, device="cuda") == (1, 1)
    assert threads(64, ray_address="10.0.0.1:6379") == (1, 1)


def test_a_plan_counts_them_in_its_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_with({"a": GRPO}, hardware={"device": "cpu"})
    stated = {"device": "cpu", "threads_per_rank": 3, "threads_per_engine": 3}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert make_plan(recipe).recipe.hardware.rank_threads == 3
    before = fingerprint(recipe, "a")
    assert fingerprint(recipe_with({"a": GRPO}, hardware=stated), "a") == before
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fingerprint(recipe, "a") != before


def test_a_run_says_where_it_keeps_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_with({"a": GRPO}, hardware={"device": "cpu"})
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert other_cores(make_plan(recipe)) is None
    kept = make_plan(recipe, cores=2)
    assert kept.recipe.hardware.rank_threads == 2
    assert "began with 2 cores, 4 are here" in (other_cores(kept) or "")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert other_cores(make_plan(recipe, cores=MOST_CORES)) is None
    cluster = recipe_with({"a": GRPO}, hardware={"device": "cpu", "ray_address": "10.0.0.1:6379"})
    assert other_cores(make_plan(cluster, cores=2)) is None


def test_cores_are_those_of_openmp_or_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 4, 9})
    for text, cores in (("5", 5), ("", 3), ("0", 3), ("4,2", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert usable_cores() == cores
