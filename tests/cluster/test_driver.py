"""What the processes of a run need."""

import pytest
from ray.exceptions import RayTaskError

from pipeline.cluster.driver import failure_of, places
from pipeline.cluster.ray_session import ComponentFailed
from pipeline.errors import RunFailed, WrongInput
from pipeline.models.model_folder import ModelError
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.hardware import Hardware


@pytest.mark.parametrize(("device", "gpu"), [("cpu", {}), ("cuda", {"GPU": 1.0})])
def test_a_reward_model_is_placed_as_an_engine_is(device: str, gpu: dict[str, float]) -> None:
    hardware = Hardware(ranks=2, engines=2, threads_per_rank=3, threads_per_engine=4)
    without = places(hardware, device=device, scorer=False)
    service, *ranks_and_engines = without
    assert service == {"CPU": 1.0}
    assert ranks_and_engines == [{"CPU": 3.0} | gpu] * 2 + [{"CPU": 4.0} | gpu] * 2
    assert places(hardware, device=device, scorer=True) == [*without, {"CPU": 4.0} | gpu]


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
