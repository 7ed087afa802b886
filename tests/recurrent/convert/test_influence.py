"""Influence and damage of layers that are looped."""

from pathlib import Path

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.recurrent.convert.folder import (
    convert_dense,
    load_dense,
)
from pipeline.recurrent.convert.influence import candidate_cores, measure, suggested_core
from tests.recurrent.convert.checkpoints import (
    logits,
    reweighed,
    tokens_of,
)


def test_a_layer_that_does_nothing_has_no_influence_and_loops_without_damage(llama: Path) -> None:
    def silence(weights: dict[str, Tensor]) -> None:
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            weights[f"model.layers.2.{name}"].zero_()

    influence = measure(
        load_dense(reweighed(llama, silence)), tokens_of(), cores=[(1, 2), (2, 3)], gate=0.5
    )
    assert influence.layers[2] == pytest.approx(0, abs=1e-6)
    assert min(influence.layers[0], influence.layers[1], influence.layers[3]) > 0.01
    assert influence.damage[2, 3] == pytest.approx(0, abs=1e-5)
    assert abs(influence.damage[1, 2]) > 1e-3


def test_damage_is_what_the_converted_model_loses_at_two_iterations(
    llama: Path, tmp_path: Path
) -> None:
    tokens = tokens_of()
    influence = measure(load_dense(llama), tokens, cores=[(1, 3)], gate=0.4)
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), gate=0.4)
    losses = []
    for depth in (1, 2):
        predicted = logits(tmp_path / "ours", tokens, num_iterations=depth)[:, :-1]
        losses.append(F.cross_entropy(predicted.flatten(0, 1), tokens[:, 1:].flatten()).item())
    assert influence.loss == pytest.approx(losses[0], abs=1e-4)
    assert influence.damage[1, 3] == pytest.approx(losses[1] - losses[0], abs=1e-4)


@given(st.integers(1, 100))
def test_candidates_are_cores_of_the_model(layers: int) -> None:
    cores = candidate_cores(layers)
    assert cores
    assert len(cores) <= 60
    assert all(0 <= first < end <= layers for first, end in cores)
    assert layers < 3 or all(first > 0 and end < layers for first, end in cores)


def test_the_suggestion_is_the_best_of_the_middle_width() -> None:
    assert (10, 18) in candidate_cores(30)
    damage = {(8, 13): 0.01, (8, 16): 0.03, (10, 18): 0.02, (20, 28): 0.4, (4, 16): 0.01}
    assert suggested_core(30, damage) == (10, 18)
    assert suggested_core(30, {(8, 13): 0.01, (4, 16): 0.02}) == (8, 13)
