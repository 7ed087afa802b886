"""How long a run still takes."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.plan import make_plan
from pipeline.plan.time_left import planned_seconds, seconds_left
from tests.plan.plans import r1

SECONDS = st.floats(1.0, 1e6)


@given(SECONDS, SECONDS, st.floats(0.1, 10.0))
def test_later_stages_take_what_earlier_ones_did(first: float, second: float, pace: float) -> None:
    both = {"a": first, "b": second}
    left = seconds_left(both, {"a": pace * first}, waiting={"b"})
    assert left is not None
    low, high = sorted((second, pace * second))
    assert low * (1 - 1e-9) <= left <= high * (1 + 1e-9)


def test_nothing_is_said_of_a_stage_that_the_plan_does_not_know() -> None:
    assert seconds_left({"a": 10.0}, {"a": 12.0}, waiting={"b"}) is None
    assert seconds_left({"a": 10.0}, {"b": 12.0}, waiting={"a"}) == 10.0
    assert seconds_left({}, {}, waiting=set()) == 0.0


def test_every_stage_of_a_flow_is_planned() -> None:
    plan = make_plan(r1())
    seconds = planned_seconds(plan)
    assert seconds.keys() == {stage.name for stage in plan.stages}
    assert all(value >= 0 for value in seconds.values())
