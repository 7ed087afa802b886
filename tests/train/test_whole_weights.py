"""Weights as a model's file holds them, by name."""

from typing import cast

import pytest
import torch
from torch import nn

from pipeline.train.whole_weights import full_weights, load_weights


def test_tied_weights_are_stored_once_and_load_back() -> None:
    def tied() -> nn.ModuleDict:
        model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
        cast(nn.Linear, model["head"]).weight = cast(nn.Embedding, model["embed"]).weight
        return model

    model, other = tied(), tied()
    stored = full_weights(model)
    assert list(stored) == ["embed.weight"]
    load_weights(other, stored)
    assert torch.equal(cast(nn.Linear, other["head"]).weight, stored["embed.weight"])
    load_weights(model, full_weights(tied()))
    assert not torch.equal(full_weights(model)["embed.weight"], stored["embed.weight"])


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="another model"):
        load_weights(nn.Linear(2, 1, bias=False), {"other.weight": torch.zeros(1, 2)})
