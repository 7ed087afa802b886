"""Prompts and seeds are pure functions of the step."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.generate.schedule import derived_seed, prompts_of_step, replacements_of_step
from pipeline.records import Prompt

PROMPTS = [Prompt(id=str(i), question=str(i)) for i in range(10)]


@given(seed=st.integers(0, 99), count=st.integers(1, 7))
def test_every_pass_shows_each_prompt_once(seed: int, count: int) -> None:
    steps = [prompts_of_step(PROMPTS, seed=seed, step=s, count=count) for s in range(30)]
    stream = [p.id for step in steps for p in step]
    for start in range(0, len(stream) - 9, 10):
        assert sorted(stream[start : start + 10]) == sorted(p.id for p in PROMPTS)


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    alone = prompts_of_step(PROMPTS, seed=3, step=17, count=4)
    for step in range(17):
        prompts_of_step(PROMPTS, seed=3, step=step, count=4)
    assert prompts_of_step(PROMPTS, seed=3, step=17, count=4) == alone


@given(attempt=st.integers(0, 5), used=st.sets(st.sampled_from([p.id for p in PROMPTS])))
def test_replacements_are_new_and_distinct(attempt: int, used: set[str]) -> None:
    found = replacements_of_step(
        PROMPTS, seed=1, step=2, attempt=attempt, count=4, used=frozenset(used)
    )
    ids = [p.id for p in found]
    assert len(set(ids)) == len(ids) == min(4, 10 - len(used))
    assert not used & set(ids)


def test_seeds_differ_in_every_part() -> None:
    seeds = {derived_seed(a, b, c) for a in range(3) for b in range(3) for c in "xyz"}
    assert len(seeds) == 27
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed("ab", "c") != derived_seed("a", "bc")
