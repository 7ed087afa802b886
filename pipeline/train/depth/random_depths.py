"""Random depth in the training of recurrent models."""

from pathlib import Path

from transformers import PreTrainedModel

from pipeline.recipe import RandomDepths
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.sampling import DepthDistribution


def draw_depths(model: PreTrainedModel, depths: RandomDepths, *, folder: Path) -> None:
    """Let every training sequence of `model` run a random number of iterations.

    Raises:
        ValueError: the model is not recurrent, or `depths` go past its deepest iteration.
    """
    if not isinstance(model, RecurrentForCausalLM):
        raise ValueError(
            f"random_depths is for recurrent models; {folder} is a "
            f"{model.config.model_type} model: remove it"
        )
    deepest = model.config.max_iterations
    if depths.high > deepest:
        raise ValueError(
            f"random_depths.high={depths.high} is over max_iterations={deepest} of {folder}"
        )
    model.model.training_depths = DepthDistribution(
        kind=depths.kind,
        low=depths.low,
        high=depths.high,
        mean=depths.mean,
        segment=depths.segment,
    )
