"""What training makes of a recurrent model's depth policy.

A calibration is measured on weights: it ends where they change, and the model runs at its
`num_iterations` again. The head that decides depths learns in the depth stage alone.
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from pipeline.recurrent.effort import CALIBRATION, EFFORT
from pipeline.recurrent.model import RecurrentModel


def drop_calibration(model: PreTrainedModel) -> None:
    """Take the calibration out of a model's configuration, and its default effort."""
    config: Any = model.config
    for key in config.to_dict().keys() & CALIBRATION:
        delattr(config, key)
    generation: Any = model.generation_config if model.can_generate() else None
    if generation is not None and EFFORT in generation.to_dict():
        delattr(generation, EFFORT)


def freeze_policy(model: nn.Module) -> None:
    """Keep what decides depths as it is: no loss of tokens depends on it."""
    for module in model.modules():
        if isinstance(module, RecurrentModel):
            for part in (module.halting, module.exit_gate):
                if part is not None:
                    part.requires_grad_(False)
