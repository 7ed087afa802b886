"""What a worker raises is told as it was meant, and the death of another before that."""

from concurrent.futures import Future
from itertools import count
from threading import Timer

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from pipeline.cluster.deaths import death_in, eviction, failure_of
from pipeline.cluster.ray_session import ComponentDied, ComponentFailed
from pipeline.errors import RunFailed, WrongInput
from pipeline.models.model_folder import ModelError
from pipeline.prompts.prompt_error import PromptError


@pytest.mark.parametrize(
    ("cause", "kind", "says"),
    [
        (ModelError("no tensors"), WrongInput, "no tensors"),
        (PromptError("row 3"), WrongInput, "row 3"),
        (RunFailed("engine gone"), ComponentFailed, "engine gone"),
        (KeyError("x"), ComponentFailed, "KeyError: 'x'"),
    ],
)
def test_what_a_worker_raises_keeps_its_kind(
    cause: Exception, kind: type[Exception], says: str
) -> None:
    outer = RayTaskError("f", "trace", RayTaskError("g", "trace", cause))
    failure = failure_of(outer)
    assert type(failure) is kind
    assert str(failure) == says


FULL = """1 worker(s) were killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.2, ID: b054) was 22.49GB used / 23.54GB limit (0.955216)
Object store memory usage: [- objects spillable: 0"""


def test_memory_that_ran_out_is_one_sentence() -> None:
    outer = RayTaskError("f", "trace", OutOfMemoryError(FULL))
    failure = failure_of(outer)
    assert type(failure) is ComponentDied
    assert "memory was full: 22.49 of 23.54 GB" in str(failure)
    assert "\n" not in str(failure)
    assert eviction(RayActorError()) is None


def test_a_death_is_found_among_those_who_live() -> None:
    """The idle answer, the busy beat, and Ray tells of the dead one later."""
    idle, busy, dead = Future[None](), Future[None](), Future[None]()
    idle.set_result(None)
    beats = count()
    living = {"idle": idle, "busy": busy}

    def beat_s(name: str) -> float | None:
        return {"busy": float(next(beats))}.get(name)

    assert death_in(living, beat_s=beat_s, stopping=lambda: False) is None
    Timer(0.3, dead.set_exception, [RayActorError()]).start()
    death = death_in(living | {"dead": dead}, beat_s=beat_s, stopping=lambda: False)
    assert death is dead.exception()


def test_a_wish_to_stop_ends_the_look() -> None:
    assert death_in({"x": Future()}, beat_s=lambda _: None, stopping=lambda: True) is None
