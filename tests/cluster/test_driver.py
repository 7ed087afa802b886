"""What a worker raises is told as it was meant."""

import pytest
from ray.exceptions import RayTaskError

from pipeline.cluster.driver import failure_of
from pipeline.cluster.ray_session import ComponentFailed
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
