"""What a user asks of a model's depth, as a request and in words."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import WrongInput
from pipeline.recurrent.effort import default_effort, request_for
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import MODEL_TYPE


class DepthRefused(WrongInput):
    """A depth that the model cannot run, or that it was never calibrated for."""


def chosen_depth(
    config: Mapping[str, Any], generation: Mapping[str, Any], choice: Mapping[str, Any]
) -> tuple[DepthRequest | None, str]:
    """The depth request of a choice, and who decided it, in words; None and "" for a dense model.

    Args:
        config, generation: the model's `config.json` and `generation_config.json`.
        choice: one of effort, budget and depth; empty: the effort that the model was calibrated to
            be used at, else its own number of iterations.

    Raises DepthRefused.
    """
    if config.get("model_type") != MODEL_TYPE:
        if choice:
            raise DepthRefused(
                f"a dense model ({config.get('model_type')}) has no depth to choose: leave "
                f"{next(iter(choice))} out, or give a recurrent model"
            )
        return None, ""
    if "depth" in choice:
        depth, most = choice["depth"], config["max_iterations"]
        if not 1 <= depth <= most:
            raise DepthRefused(f"depth {depth}: the model runs 1 to {most} iterations")
        return DepthRequest(depth=depth), f"depth {depth}"
    words = " ".join(f"{key} {value}" for key, value in choice.items())
    if not choice:
        effort = default_effort(config, generation)
        if effort is None:
            own = config["num_iterations"]
            return DepthRequest(depth=own), f"the model's own {own} iterations"
        choice, words = {"effort": effort}, f"effort {effort}, the model's default"
    try:
        return request_for(config, **choice), words
    except ValueError as error:
        raise DepthRefused(str(error)) from None


def full_depth(config: Mapping[str, Any], request: DepthRequest) -> int:
    """The depth that a request's mean is a share of: the policy's, else the model's own number of
    iterations, or what was asked where that is deeper."""
    policy = config.get("depth_policy")
    return max(request.deepest, config["num_iterations"] if policy is None else policy["depth"])
