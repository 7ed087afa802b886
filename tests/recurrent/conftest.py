"""A tiny recurrent model whose every part matters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM

MakeModel = Callable[..., RecurrentForCausalLM]

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.15,  # deep enough in the non-linear range that iterations differ
}


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Build a model in evaluation mode; keywords change its configuration.

    Norms and gates are moved off their initial values, so that one left out shows.
    """

    def build(*, seed: int = 0, **changes: Any) -> RecurrentForCausalLM:
        if changes.get("injection") == "none":
            changes.setdefault("state_init", "input")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = RecurrentForCausalLM(RecurrentConfig(**SIZES | changes))
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() == 1:
                        parameter += 0.1 * torch.randn_like(parameter)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def model(make_model: MakeModel) -> RecurrentForCausalLM:
    """A model for every rule: with an exit gate, and a halting policy that is sure of itself."""
    ruled = make_model(exit_gate=True, halting_width=16, state_init="normal")
    halting: Any = ruled.model.halting
    with torch.no_grad():
        halting.out.weight *= 8
    return ruled
